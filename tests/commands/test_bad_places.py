"""Places that cannot be written to: commands say so before their work, and layers do without."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from bn3d.commands import options
from bn3d.commands.cli import app

READ_ONLY = "/proc"  # where not even root makes a file
COMMANDS = {
    "bench": ["bench", "--quick", "--output"],
    "demo": ["demo", "--steps", "1", "--output"],
    "verify": ["verify", "--quick", "--json"],
}
PLACES = [
    ("bench", "a file", "cannot write into a file: File exists"),
    ("bench", "a file/out", "cannot write into a file/out: Not a directory"),
    ("bench", READ_ONLY, f"cannot write into {READ_ONLY}: "),
    ("bench", f"{READ_ONLY}/out", f"cannot write into {READ_ONLY}/out: "),
    ("demo", "a file", "cannot write into a file: File exists"),
    ("demo", "a file/out", "cannot write into a file/out: Not a directory"),
    ("demo", f"{READ_ONLY}/out", f"cannot write into {READ_ONLY}/out: "),
    ("verify", ".", "cannot write .: Is a directory"),
    ("verify", "a file/out.json", "cannot write a file/out.json: Not a directory"),
    ("verify", "nowhere/out.json", "cannot write nowhere/out.json: No such file or directory"),
    ("verify", f"{READ_ONLY}/out.json", f"cannot write {READ_ONLY}/out.json: "),
]


@pytest.mark.parametrize(("command", "place", "says"), PLACES)
def test_output_of_a_command(command, place, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    (tmp_path / "a file").touch()
    result = CliRunner().invoke(app, [*COMMANDS[command], place])
    assert result.exit_code == 2, result.output
    assert says in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]


def test_a_link_that_names_nothing_yet_stays(tmp_path):
    """It is looked at before the work whose result goes where it names."""
    link = tmp_path / "out.json"
    link.symlink_to("there.json")
    assert options.file(link) == link
    assert link.is_symlink() and not (tmp_path / "there.json").exists()


TRAINS = """
import mindspore as ms, numpy as np
import bn3d
ms.set_context(mode=ms.GRAPH_MODE)
net = bn3d.BatchNorm3d(3).set_train()
x = ms.Tensor(np.random.default_rng(0).standard_normal((2, 3, 2, 4, 4)), ms.float32)
ms.value_and_grad(net, None, net.trainable_params())(x)
assert abs(net(x).asnumpy().std() - 1) < 1e-3
print(bn3d.info().backend)
"""


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"HOME": "/nonexistent", "TMPDIR": READ_ONLY},
        {"MS_COMPILER_CACHE_ENABLE": "1"},
        {"MS_COMPILER_CACHE_ENABLE": "1", "MS_COMPILER_CACHE_PATH": f"{READ_ONLY}/cache"},
    ],
    ids=["working directory", "home and temporary files", "cache there", "cache elsewhere"],
)
def test_layer_where_mindspore_cannot_write_its_files(variables, tmp_path, child_environment):
    script = tmp_path / "train.py"  # the cache of compiled graphs asks for a file
    script.write_text(TRAINS)
    ran = subprocess.run(
        [sys.executable, str(script)],
        cwd=READ_ONLY,
        env={**child_environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["native"]
