"""macOS and Windows, as far as Linux can pretend to be them: there is no native library there, and
Python lacks the modules that only some systems have.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# MindSpore's imports are its own business.
PRETEND = """
import os, platform, sys
import mindspore
from typer.testing import CliRunner
sys.modules.update(dict.fromkeys(("fcntl", "resource", "pwd", "grp")))  # importing them fails
for name in ("sched_getaffinity", "sched_setaffinity", "geteuid"):
    delattr(os, name)
platform.system = lambda: "Windows"
from bn3d.commands.cli import app
"""


def run(program: str, environment: dict[str, str]) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", PRETEND + program],
        env={**environment, "BN3D_BACKEND": "auto", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_every_command_can_be_asked(child_environment):
    program = """
for command in app.registered_commands:
    name = command.name or command.callback.__name__
    done = CliRunner().invoke(app, [name, "--help"])
    assert done.exit_code == 0, (name, done.output)
done = CliRunner().invoke(app, ["info"])
assert done.exit_code == 0, (done.output, done.exception)
print(done.output)
"""
    done = run(program, child_environment)
    assert done.returncode == 0, done.stderr
    assert "composed" in done.stdout and "runs on Linux only" in done.stdout


def test_a_layer_trains_and_a_checkpoint_is_converted(child_environment, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.BatchNorm3d(3).state_dict(), tmp_path / "in.pt")
    (tmp_path / "networks_here.py").write_text(
        "import bn3d\ndef build():\n    return bn3d.BatchNorm3d(3)\n"
    )
    program = f"""
os.chdir({str(tmp_path)!r})
import bn3d, numpy
x = mindspore.Tensor(numpy.random.default_rng(0).normal(3, 2, (2, 3, 4, 5, 6)), mindspore.float32)
assert abs(bn3d.BatchNorm3d(3).set_train()(x).asnumpy().mean()) < 1e-6
done = CliRunner().invoke(
    app, ["convert", "in.pt", "out.ckpt", "--net", "networks_here:build"]
)
assert done.exit_code == 0, (done.output, done.exception)
"""
    done = run(program, child_environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.ckpt").is_file()


def test_the_benchmark_times_without_cores_and_page_faults(child_environment, tmp_path):
    program = f"""
import math, pathlib
from bn3d.commands.bench.session import _enter, usable_cores
from bn3d.commands.bench.timing import Effort, take_turns
_enter(None, usable_cores(), pathlib.Path({str(tmp_path / "stderr")!r}))
timing = take_turns({{"nothing": lambda: None}}, Effort(blocks=1))["nothing"]
assert timing.calls > 0 and math.isnan(timing.page_faults)
"""
    done = run(program, child_environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("cmake") is None, reason="no cmake: pip install cmake")
@pytest.mark.parametrize("system", ["Darwin", "Windows"])
def test_the_native_library_is_built_for_linux_only(tmp_path, system):
    done = subprocess.run(
        ["cmake", "-S", ROOT, "-B", tmp_path, f"-DCMAKE_SYSTEM_NAME={system}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"The native CPU operator is not for {system}" in done.stdout
    assert not (tmp_path / "op_impl").exists()


def test_the_numpy_backend_trains(child_environment):
    program = """
import mindspore as ms, numpy as np
import bn3d
os.environ["BN3D_BACKEND"] = "numpy"
for mode in (ms.PYNATIVE_MODE, ms.GRAPH_MODE):
    ms.set_context(mode=mode)
    layer = bn3d.BatchNorm3d(3).set_train()
    x = ms.Tensor(np.random.default_rng(0).standard_normal((2, 3, 2, 2, 2)).astype(np.float32))
    _, (_, dbeta) = ms.grad(layer, 0, layer.trainable_params())(x)
    print(bn3d.cross_check(layer, x).ok, dbeta.asnumpy())
"""
    done = run(program, child_environment)
    assert done.stdout.splitlines()[-2:] == ["True [16. 16. 16.]"] * 2, done.stderr
    assert done.stderr.count("in graphs bn3d computes with its composed backend") == 1
