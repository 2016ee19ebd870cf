"""What the long commands write into a log file while they work."""

from __future__ import annotations

import itertools
import re
import time
from types import SimpleNamespace

import numpy as np
import pytest
from mindspore import nn
from typer.testing import CliRunner

from bn3d.commands.cli import app
from bn3d.commands.progress import progress
from bn3d.commands.verify import session


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """A line every 0.02 seconds."""
    monkeypatch.setattr(progress.__wrapped__, "__defaults__", (None, 0.02))


def steps(name: str, output: str) -> list[tuple[int, int]]:
    """(step, of how many) of the lines of progress."""
    found = re.findall(rf"^{name}: step (\d+) of (\d+), .*$", output, re.MULTILINE)
    return [(int(done), int(total)) for done, total in found]


def test_verify(monkeypatch):
    monkeypatch.setattr(session, "QUICK_SHAPES", ((2, 3, 2, 4, 4),))
    monkeypatch.setattr(session, "MODES", ("PYNATIVE_MODE",))
    done = CliRunner().invoke(app, ["verify", "--quick"])
    assert done.exit_code == 0, done.output
    shown = steps("verify", done.output)
    assert shown[-1] == (3, 3) and len({step for step, _ in shown}) > 2
    said = r"s a step, \d+ s left; PYNATIVE_MODE \w+ \(2, 3, 2, 4, 4\)$"
    assert re.search(said, done.output, re.MULTILINE)


def test_check(tmp_path, monkeypatch):
    (tmp_path / "slow_network.py").write_text(
        "import time\n"
        "import mindspore as ms\n"
        "from mindspore import nn, ops\n"
        "class Slow(nn.Cell):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.norm = nn.BatchNorm3d(2)\n"
        "    def construct(self, x):\n"
        "        time.sleep(0.2)\n"
        "        return self.norm(x)\n"
        "def build():\n"
        "    return Slow(), ops.ones((2, 2, 2, 3, 3), ms.float32)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    done = CliRunner().invoke(app, ["check", "slow_network:build", "--beside"])
    assert done.exit_code == 0, done.output
    shown = steps("check", done.output)
    assert shown[0] == (0, 2) and shown[-1] == (2, 2)


def test_bench(tmp_path):
    arguments = ["bench", "--quick", "--shape", "2,3,2,4,4", "--no-layers", "-o", str(tmp_path)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    shown = steps("bench", done.output)
    assert shown[0] == (0, 1) and shown[-1] == (1, 1)


def test_demo(monkeypatch, capsys):
    """Without its networks: a step that takes a while."""
    pytest.importorskip("nilearn")
    from bn3d.commands.demo import training  # noqa: PLC0415

    class Step(nn.Cell):
        def construct(self, x, y):
            time.sleep(0.03)
            return x.sum()

    def run(*_):
        return training.Run(nn.Identity(), Step())

    batch = np.zeros((1, 1, 2, 2, 2), np.float32)
    monkeypatch.setattr(training, "_run", run)
    monkeypatch.setattr(training.bn3d, "swap", lambda _: SimpleNamespace(changed=[]))
    monkeypatch.setattr(training, "_round_weights_otherwise", lambda *_: None)
    monkeypatch.setattr(training, "_validate", lambda *_: None)
    monkeypatch.setattr(training, "patches", lambda *_: itertools.repeat((batch, batch)))
    monkeypatch.setattr(training.ms, "set_context", lambda **_: None)  # to graph mode
    training.race(None, 3, 0)
    shown = steps("demo", capsys.readouterr().out)
    assert shown[-1] == (6, 6) and len(shown) > 3
