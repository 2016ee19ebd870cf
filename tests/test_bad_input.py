"""What is wrong gets an error of the right type that names it and what it should be, and changes
nothing. The C interface's own refusals are in `tests/native/bad_calls.cc`.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, mint, nn
from typer.testing import CliRunner

import bn3d
from bn3d import backends
from bn3d.backends import library, process_groups
from bn3d.backends.process_groups import Membership
from bn3d.commands.cli import app
from support.archives import archive

# The constructor: argument, values, error, what the text says besides the argument's name.
NO_NUMBERS = ["1", b"1", None, [1], (1,), {}, object(), 1j, np.ones(2), Tensor([1.0, 2.0]), max]
CONSTRUCTOR = [
    ("num_features", [*NO_NUMBERS, 3.0, True, float("nan")], TypeError, "int"),
    ("num_features", [0, -1, -(2**70)], ValueError, "at least 1"),
    ("eps", [*NO_NUMBERS, True], TypeError, "number"),
    ("eps", [-1e-5, -1, float("nan"), float("inf"), -float("inf")], ValueError, "finite"),
    ("momentum", NO_NUMBERS, TypeError, "number from 0 to 1"),
    ("momentum", [-0.1, 1.1, 90, float("nan"), float("inf")], ValueError, "0 to 1"),
    ("affine", [0, 1, 1.0, None, "True", "no", [True]], TypeError, "bool"),
    ("use_batch_statistics", [0, 1, "True", "auto", [None]], TypeError, "bool or None"),
    ("dtype", [ms.int32, ms.bool_, ms.complex64, "float32", None, 32], TypeError, "floating"),
]


def flat(table):
    cases = [(name, value, *rest) for name, values, *rest in table for value in values]
    return pytest.mark.parametrize(
        "name, value, error, says", cases, ids=[f"{case[0]}-{i}" for i, case in enumerate(cases)]
    )


@flat(CONSTRUCTOR)
def test_constructor(name, value, error, says):
    with pytest.raises(error, match=f"BatchNorm3d: '{name}' must be .*{says}.*got"):
        bn3d.BatchNorm3d(**{"num_features": 3, name: value})


INITIALISERS = ("gamma_init", "beta_init", "moving_mean_init", "moving_var_init")


@pytest.mark.parametrize("name", INITIALISERS)
@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("no such one", ValueError),
        (Tensor(np.ones(7, np.float32)), ValueError),
        (10**400, ValueError),
        (1j, TypeError),
        ({}, TypeError),
        ([1.0, 2.0, 3.0], TypeError),
        (np.ones(3), TypeError),
    ],
    ids=lambda value: type(value).__name__,
)
def test_initialisers(name, value, error):
    says = rf"'{name}' must be a Tensor of shape \(3,\), .*, got .*\({type(value).__name__}\)"
    with pytest.raises(error, match=f"(?s)BatchNorm3d: {says}"):
        bn3d.BatchNorm3d(3, **{name: value})


# The input: a layer of three channels.
SHAPES = [(), (3,), (2, 3), (2, 3, 4), (2, 3, 4, 4), (1, 2, 3, 4, 4, 4), (1,) * 8]
CHANNELS = [(2, c, 2, 2, 2) for c in (0, 1, 2, 4, 300)]
DTYPES = ["int8", "int16", "int32", "int64", "uint8", "bool", "complex64", "complex128"]
NO_TENSORS = [None, 1, 1.0, "x", [1.0], (1.0,), {}, np.ones((2, 3, 2, 2, 2), np.float32), object()]


@pytest.fixture(scope="module", params=[True, False], ids=["training", "inference"])
def layer(request):
    return bn3d.BatchNorm3d(3).set_train(request.param)


def assert_refused(layer, x, error, says):
    with pytest.raises(error, match=says):
        layer(x)
    assert layer.bn2d.moving_mean.asnumpy().tolist() == [0, 0, 0]
    assert layer.bn2d.moving_variance.asnumpy().tolist() == [1, 1, 1]


@pytest.mark.parametrize("shape", SHAPES)
def test_rank(layer, shape):
    x = Tensor(np.ones(shape, np.float32))
    assert_refused(layer, x, ValueError, r"x must have 5 dimensions \(N, C, D, H, W\), got")


@pytest.mark.parametrize("shape", CHANNELS)
def test_channels(layer, shape):
    x = Tensor(np.ones(shape, np.float32))
    assert_refused(layer, x, ValueError, f"num_features = 3 channels, got {shape[1]}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype(layer, dtype):
    x = Tensor(np.ones((2, 3, 2, 2, 2), dtype))
    assert_refused(layer, x, TypeError, "must be .*float32, float16, bfloat16 or float64, got")


@pytest.mark.parametrize("x", NO_TENSORS, ids=lambda x: type(x).__name__)
def test_no_tensor(layer, x):
    assert_refused(layer, x, TypeError, "BatchNorm3d: x must be")


@pytest.mark.parametrize("arguments", [(), (Tensor([1.0]), Tensor([1.0]))], ids=["none", "two"])
def test_number_of_inputs(layer, arguments):
    with pytest.raises((TypeError, ValueError), match=r"argument|input"):
        layer(*arguments)


# swap and restore
@pytest.mark.parametrize("function", [bn3d.swap, bn3d.restore])
@pytest.mark.parametrize(
    "net", [None, 1, "net", [nn.BatchNorm3d(2)], nn.BatchNorm3d, {}, object(), np.ones(2)]
)
def test_swap_of_no_network(function, net):
    with pytest.raises(TypeError, match=r"'net' must be a mindspore\.nn\.Cell, got"):
        function(net)


@pytest.mark.parametrize("also", [nn.BatchNorm2d, 1, None, (1,), ("BatchNorm3d",), [None], 2.5])
def test_swap_also(also):
    net = nn.SequentialCell(nn.BatchNorm3d(2))
    with pytest.raises(TypeError, match="'also' must"):
        bn3d.swap(net, also=also)
    assert type(net[0]) is nn.BatchNorm3d


class NoBatchNorm(nn.Cell):
    def construct(self, x):
        return x


class TwoInputs(nn.Cell):
    def __init__(self):
        super().__init__()
        self.bn2d = nn.BatchNorm2d(2)

    def construct(self, x, mask):
        return x * mask


@pytest.mark.parametrize("kind", [NoBatchNorm, TwoInputs])
def test_swap_also_of_another_structure(kind):
    net = nn.SequentialCell(nn.BatchNorm3d(2), kind())
    with pytest.raises(ValueError, match=f"'also': {kind.__name__}"):
        bn3d.swap(net, also=(kind,))
    assert type(net[0]) is nn.BatchNorm3d


@pytest.mark.parametrize("name", ["BatchNorm", "batchnorm3d", "Swap", "convert_all", ""])
def test_names_that_the_package_has_not(name):
    with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
        getattr(bn3d, name)


# The environment
@pytest.mark.parametrize("value", ["Native", "cpu", "NumPy", "native,composed", " ", "1", "Ascend"])
def test_backend_variable(monkeypatch, value):
    monkeypatch.setenv("BN3D_BACKEND", value)
    for action in (backends.choose, bn3d.info, lambda: bn3d.BatchNorm3d(3)):
        with pytest.raises(ValueError, match="BN3D_BACKEND must be one of auto, ascend, native, "):
            action()
    assert_swap_changes_nothing(ValueError, "BN3D_BACKEND must")


def test_reductions_variable(monkeypatch):
    """Only batches that span devices are computed with it on a CPU."""
    monkeypatch.setattr(process_groups, "find", lambda _: Membership("not there", 2, 0))
    monkeypatch.setenv("BN3D_REDUCTIONS", "3")
    assert_swap_changes_nothing(ValueError, "BN3D_REDUCTIONS must be 1 or 2", sync=True)


def assert_swap_changes_nothing(error, text, **arguments):
    net = nn.SequentialCell(mint.nn.BatchNorm3d(2), nn.BatchNorm3d(2))
    before = [(type(cell), list(cell._cells), list(vars(cell))) for cell in net]
    with pytest.raises(error, match=text):
        bn3d.swap(net, **arguments)
    assert [(type(cell), list(cell._cells), list(vars(cell))) for cell in net] == before


def test_white_list_of_mindspore_elsewhere(tmp_path):
    shown = run_python(
        "import bn3d; print(bn3d.info())", MS_CUSTOM_AOT_WHITE_LIST=str(tmp_path)
    ).stdout
    assert "backend" in shown
    assert "composed" in shown
    assert "MS_CUSTOM_AOT_WHITE_LIST" in shown


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


# The library's file: what is there instead, and what the error says.
def cut(share):
    def write(path):
        data = library.load().path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return write


def compiled(source):
    def write(path):
        options = ["-shared", "-fPIC", "-x", "c", "-", "-o", str(path)]
        subprocess.run(["g++", *options], input=source, text=True, check=True)

    return write


def of_another_processor(path):
    data = bytearray(library.load().path.read_bytes())
    data[18:20] = (0xF3).to_bytes(2, "little")  # e_machine: RISC-V
    path.write_bytes(data)


def dangling(path):
    path.symlink_to(path.with_name("gone"))


OTHER_VERSION = """
const char* bn3d_version(void) { return "9.9.9"; }
const char* bn3d_instruction_set(void) { return "baseline"; }
"""
FILES = {
    "missing": (lambda path: None, "is not installed.*install g\\+\\+ or clang\\+\\+"),
    "a dangling link": (dangling, "is not installed.*reinstall bn3d"),
    "a directory": (Path.mkdir, "is not installed.*reinstall bn3d"),
    "empty": (Path.touch, "cannot be loaded.*reinstall bn3d"),
    "text": (lambda path: path.write_text("#!/bin/sh\n"), "cannot be loaded.*reinstall bn3d"),
    "cut to a header": (cut(0.0005), "cannot be loaded.*reinstall bn3d"),
    "cut to a tenth": (cut(0.1), "cannot be loaded.*reinstall bn3d"),
    "cut in the middle": (cut(0.5), "cannot be loaded.*reinstall bn3d"),
    "of another processor": (of_another_processor, "cannot be loaded.*reinstall bn3d"),
    "another library": (compiled("int other;"), "cannot be loaded.*bn3d_version.*reinstall"),
    "of another version": (compiled(OTHER_VERSION), "is of bn3d 9.9.9, this package is"),
}


@pytest.mark.parametrize("what", FILES)
def test_library_file(tmp_path, monkeypatch, what):
    write, says = FILES[what]
    write(tmp_path / library.LIBRARY_NAME)
    monkeypatch.setattr(bn3d, "__path__", [str(tmp_path)])
    with pytest.raises(library.LibraryError, match=says):
        library.load.__wrapped__()


@pytest.mark.parametrize("what", ["missing", "cut to a tenth"])
def test_without_the_library(tmp_path, what):
    # A package of its own, as an installation without a compiler or a broken one has it.
    package = tmp_path / "bn3d"
    source = Path(bn3d.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    FILES[what][0](package / library.LIBRARY_NAME)
    code = "import bn3d; print(bn3d.info()); bn3d.BatchNorm3d(2)"
    environment = {"PYTHONPATH": str(tmp_path)}
    ran = run_python(code, **environment)
    assert "composed" in ran.stdout
    assert "reinstall bn3d" in ran.stdout
    command = [sys.executable, "-c", "from bn3d.commands.cli import app; app()", "info"]
    environment = {**os.environ, **environment, "BN3D_BACKEND": "native"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "BN3D_BACKEND=native, but this backend does not work here" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("threads", [-(2**31), -1, 0, 1, 2**31 - 1])
def test_any_number_of_threads_is_at_least_one(threads):
    native = library.load()
    native.set_threads(threads)
    assert 1 <= native.threads <= len(os.sched_getaffinity(0))
    native.set_threads(0)


@pytest.mark.parametrize("threads", ["2", None, 1.5])
def test_threads_that_are_no_number(threads):
    with pytest.raises((ctypes.ArgumentError, TypeError)):
        library.load().handle.bn3d_set_threads(ctypes.c_int(threads))


# The command line: arguments, and what the error says.
COMMANDS = [
    (["nonsense"], "No such command"),
    (["--nonsense"], "No such option"),
    (["info", "more"], "unexpected extra argument"),
    (["info", "--json5"], "No such option"),
    (["opp", "nonsense"], "No such command"),
    (["opp", "build", "--arch"], "requires an argument"),
    (["opp", "build", "--arch", "riscv64"], "bn3d: "),
    (["opp", "build", "more"], "unexpected extra argument"),
    (["demo", "--seed", "-1"], "Invalid value for '--seed'"),
    (["demo", "--seed", str(2**32)], "Invalid value for '--seed'"),
    (["opp", "build"], "ASCEND_HOME_PATH"),
    (["opp", "install"], "ASCEND_HOME_PATH"),
    (["opp", "install", "--path"], "requires an argument"),
    (["opp", "uninstall"], "--path"),
    (["opp", "uninstall", "--path", "/nonexistent/opp"], "not installed in"),
    (["opp", "uninstall", "more"], "unexpected extra argument"),
    (["opp", "deploy"], "Missing argument"),
    (["opp", "deploy", "host", "--jobs", "0"], "Invalid value for '--jobs'"),
    (["opp", "deploy", "host", "--jobs", "many"], "Invalid value for '--jobs'"),
    (["opp", "deploy", "host", "--timeout", "soon"], "Invalid value for '--timeout'"),
    (["opp", "deploy", "host"], "ASCEND_HOME_PATH"),
]


@pytest.fixture
def no_cann(monkeypatch):
    for name in [name for name in os.environ if name.startswith("ASCEND")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "300")


def invoke_and_fail(arguments, says):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit), result.exception  # no traceback
    assert says in result.output


@pytest.mark.parametrize("arguments, says", COMMANDS, ids=str)
def test_command_line(no_cann, arguments, says):
    invoke_and_fail(arguments, says)


def cut_archive(path):
    archive({"package/version.info": "x=" + "y" * 10000})(path)
    path.write_bytes(path.read_bytes()[:5000])


PACKAGES = {
    "missing": lambda path: None,
    "a directory": Path.mkdir,
    "empty": Path.touch,
    "text": lambda path: path.write_text("#!/bin/sh\nexit 0\n"),
    "cut": cut_archive,
    "without a package": archive({"other/file": ""}),
    "without sums": archive({"package/version.info": "bn3d_version=1\n"}),
    "without version": archive({"package/SHA256SUMS": ""}),
    "with a file that is not listed": archive(
        {"package/version.info": "bn3d_version=1\n", "package/SHA256SUMS": "", "package/x": ""}
    ),
    "with broken sums": archive(
        {"package/version.info": "bn3d_version=1\n", "package/SHA256SUMS": "not sums\n"}
    ),
    "with another text": archive(
        {
            "package/version.info": "bn3d_version=1\n",
            "package/SHA256SUMS": "0" * 64 + "  version.info\n",
        }
    ),
    "with text that is no text": archive(
        {"package/version.info": b"\xff\xfe\x00", "package/SHA256SUMS": b"\xff\xff"}
    ),
}


@pytest.mark.parametrize("command", ["install", "deploy"])
@pytest.mark.parametrize("what", PACKAGES)
def test_operator_package(no_cann, tmp_path, what, command):
    package = tmp_path / "package.run"
    PACKAGES[what](package)
    opp = tmp_path / "opp"
    arguments = [command, "--package", str(package)]
    arguments += ["--path", str(opp)] if command == "install" else ["host", "--ssh", "false"]
    if command == "install":
        invoke_and_fail(["opp", *arguments], "bn3d: ")
    else:
        result = CliRunner().invoke(app, ["opp", *arguments])
        assert result.exit_code == 2
        assert isinstance(result.exception, SystemExit), result.exception
    assert not opp.exists()
