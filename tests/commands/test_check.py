"""`bn3d check`: what it is given, what it writes, and its exit code."""

import json
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from bn3d.commands.cli import app

NETWORK = """
import numpy as np
import mindspore as ms
from mindspore import nn

class Block(nn.Cell):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 3)
        self.norm = nn.BatchNorm3d(4)

    def construct(self, x):
        return self.norm(self.conv(x))

def network():
    return nn.SequentialCell(Block(), nn.BatchNorm3d(4))

def with_input():
    import helper_imported_late
    return network().set_train(), ms.Tensor(helper_imported_late.X)

def with_array():
    import helper_imported_late
    return network().set_train(), helper_imported_late.X

def with_loss():
    return network().set_train(), (ms.ops.ones((2, 1, 4, 4, 4)),), lambda y: (y * y * y).sum()

def one_value():
    return nn.BatchNorm3d(3).set_train(), ms.ops.ones((1, 3, 1, 1, 1))

def no_network():
    return 3

def fails():
    return {}["key"]

def exits():
    raise SystemExit(0)

class Fails(nn.Cell):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm3d(4)

    def construct(self, x):
        return {}[x.shape]

class Refuses(Fails):
    def construct(self, x):
        raise ValueError("x is not mine")

class Exits(Fails):
    def construct(self, x):
        exits()

class Asks(Fails):
    def construct(self, x):
        y = ms.ops.reshape(self.norm(x), (7, 7))
        return y + 1

def bad_loss():
    return network().set_train(), (ms.ops.ones((2, 1, 4, 4, 4)),), 3

def no_norm():
    return nn.Conv3d(1, 4, 3)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "users_network.py").write_text(NETWORK)
    (tmp_path / "helper_imported_late.py").write_text(
        "import numpy as np\nX = np.random.default_rng(0).normal(size=(2, 1, 5, 5, 5))"
        ".astype(np.float32)\n"
    )
    (tmp_path / "broken_network.py").write_text("1 / 0\n")
    (tmp_path / "script.py").write_text("import sys\nsys.exit(0)\n")
    np.save(tmp_path / "header.npy", np.ones(3))
    damaged = (tmp_path / "header.npy").read_bytes().replace(b"(3,), }", b"(3,),  ")
    (tmp_path / "header.npy").write_bytes(damaged)
    (tmp_path / "cut.npz").write_bytes(b"PK\3\4" + bytes(40))
    np.save(tmp_path / "words.npy", np.array(["a"]).astype(object))
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield tmp_path
    assert sys.path == path
    for name in ("users_network", "helper_imported_late"):
        sys.modules.pop(name, None)


def check(*arguments):
    return CliRunner().invoke(app, ["check", *map(str, arguments)])


@pytest.mark.parametrize("function", ["with_input", "with_array"])
def test_the_function_gives_the_input(here, function):
    done = check(f"users_network:{function}")
    assert done.exit_code == 0, done.output
    assert "right: all 2 batch norm layers agree with the judge" in done.output
    assert "0.norm" in done.output


def test_a_loss_of_the_users(here):
    assert check("users_network:with_loss").exit_code == 0


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_a_file_of_data(here, name):
    x = np.ones((2, 1, 4, 5, 6), np.float32)
    np.save(here / name, x) if name.endswith("npy") else np.savez(here / name, x=x)
    done = check("users_network:network", "--data", name)
    assert done.exit_code == 0, done.output
    assert "2x4x4x5x6" in done.output


def test_a_shape_and_the_mode(here):
    done = check("users_network:network", "--shape", "2,1,4,4,4", "--train")
    assert "forward and backward" in done.output
    done = check("users_network:network", "--shape", "2,1,4,4,4")
    assert "forward and backward" not in done.output


def test_what_is_wrong_is_exit_code_1_and_bn3d_beside_is_right(here):
    done = check("users_network:one_value", "--json", "out.json")
    assert done.exit_code == 1
    assert "moving_variance is nan" in done.output
    found = json.loads((here / "out.json").read_text())["as it is"]
    assert found["ok"] is False
    assert found["layers"][0]["errors"]["moving_variance"]["ok"] is False
    done = check("users_network:one_value", "--beside", "--picture", "out.png")
    assert done.exit_code == 0, done.output
    assert "as it is: wrong" in done.output and "after bn3d.swap: right" in done.output
    assert (here / "out.png").read_bytes()[:4] == b"\x89PNG"


def test_json_to_stdout_is_only_json(here):
    done = check("users_network:with_input", "--json", "-")
    assert json.loads(done.stdout)["as it is"]["ok"] is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["users_network"], "BUILD must be package.module:function, got 'users_network'"),
        (["nowhere:build"], "nowhere cannot be imported"),
        (["users_network:nothing"], "users_network has no function nothing"),
        (["users_network:fails"], "BUILD: users_network:fails failed: KeyError: 'key'"),
        (["broken_network:build"], "broken_network cannot be imported: ZeroDivisionError"),
        (["script:build"], "script cannot be imported: it ends the process"),
        (["users_network:exits"], "BUILD: users_network:exits failed: it ends the process"),
        (["users_network:Exits", "--shape", "1,1,4,4,4"], "bn3d: it ends the process"),
        (["users_network:Fails", "--shape", "1,1,4,4,4"], "KeyError: (1, 1, 4, 4, 4)"),
        (["users_network:network"], "no input: return (network, inputs)"),
        (
            ["users_network:no_network"],
            "BUILD: users_network:no_network must return a network, got 3 (int)",
        ),
        (["users_network:bad_loss"], "bn3d: 'loss' must be callable, got 3"),
        (["users_network:no_norm", "--shape", "1,1,4,4,4"], "bn3d: bn3d.cross_check found no"),
        (["users_network:network", "--shape", "1,a"], "--shape must be numbers"),
        (["users_network:network", "--shape", "1,1,4,4,4", "--data", "x"], "take one"),
        (["users_network:network", "--data", "none.npy"], "none.npy"),
        (
            ["users_network:network", "--data", "cut.npz"],
            "bn3d: --data: cut.npz: ",
        ),
        (["users_network:network", "--data", "header.npy"], "bn3d: --data: header.npy: "),
        (["nowhere:build", "--picture", "out.foo"], "bn3d: --picture must end in ."),
        (["nowhere:build", "--picture", "out"], ", got out\n"),
        (["users_network:network", "--data", "words.npy"], "bn3d: --data: words.npy: "),
    ],
)
def test_wrong_use_is_exit_code_2_and_a_line(here, arguments, message):
    done = check(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("network", "error", "line"),
    [
        ("Fails", "KeyError: ", "return {}[x.shape]"),
        ("Refuses", "ValueError: x is not mine", "raise ValueError("),
    ],
)
def test_what_the_network_raises_has_its_place_in_the_users_file(here, network, error, line):
    done = check(f"users_network:{network}", "--shape", "1,4,4,4,4")
    assert done.exit_code == 2
    assert f"bn3d: {error}" in done.stderr
    assert done.stderr.strip().endswith(place(here, line))


def test_what_mindspore_raises_has_the_users_line_too(here, child_environment):
    """In a process of its own: another one is past choosing that operators wait for each other."""
    done = subprocess.run(
        [sys.executable, "-m", "bn3d", "check", "users_network:Asks", "--shape", "1,4,4,4,4"],
        env=child_environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith("bn3d: ValueError: ") and said.endswith(place(here, "ops.reshape("))


def place(folder, text):
    number = next(i for i, line in enumerate(NETWORK.splitlines(), 1) if text in line)
    return f"({folder}/users_network.py:{number})"
