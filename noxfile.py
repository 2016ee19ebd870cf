"""Other versions of MindSpore, Python and NumPy: `nox --list`, after pip install 'nox[uv]'.

    nox -s versions numpy2                                    # all that have wheels
    nox -s "versions(python='3.11', mindspore='2.8.0')"       # one; `-- TEST...` for other tests

pythonX.Y must be on the PATH, or uv fetches it. Each session has an environment of about 2 GB below
.nox/, which `nox -R` uses again. scripts/test.sh does without nox: it sets up a machine that has
nothing but Python and a compiler.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["versions"]

ROOT = Path(__file__).parent
MINDSPORE = ("2.10.0", "2.9.0", "2.8.0", "2.7.2", "2.7.0")
PYTHON = ("3.10", "3.11", "3.12")
WHEELS = [(p, m) for m in MINDSPORE for p in PYTHON if (p, m) != ("3.12", "2.7.0")]

# What meets MindSpore: the layers, their backends (on Ascend as far as a stand-in goes), what is
# done to networks, every operator and the layer against the judge. The rest needs PyTorch, or is
# the same with any MindSpore: the native library's C interface, the operator package, the scripts.
CORE = (
    "tests/layers",
    "tests/networks",
    "tests/backends",
    "tests/mindspore_private",
    "tests/commands/test_verify.py",
)

# MindSpore alone, so that a failure is its own.
OPERATORS = """
import numpy, mindspore
x = mindspore.Tensor(numpy.ones((1, 1, 2, 3), numpy.float32))
for name, compute in {
    "x + x": lambda: x + x,
    "BatchNorm2d": lambda: mindspore.nn.BatchNorm2d(1)(x),
    "x + numpy.float32(1)": lambda: x + numpy.float32(1),
}.items():
    try:
        compute().asnumpy()
        print(name, "works")
    except Exception as error:
        print(f"{name}: {type(error).__name__}")
"""


@nox.session
@nox.parametrize("python,mindspore", WHEELS)
def versions(session: nox.Session, mindspore: str) -> None:
    """The core of the tests, on bn3d as it is installed."""
    session.install(f"mindspore=={mindspore}", "pytest>=8", "hypothesis>=6.100", ".[cli]")
    # Away from the sources: the installed package is tested.
    directory = Path(session.create_tmp())
    shutil.copytree(ROOT / "tests", directory / "tests", dirs_exist_ok=True)
    shutil.copy(ROOT / "pyproject.toml", directory)
    session.chdir(directory)
    tests = session.posargs or CORE
    session.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)


@nox.session
@nox.parametrize("numpy", ("2.2.6", "2.4.6"))
@nox.parametrize("python,mindspore", WHEELS)
def numpy2(session: nox.Session, mindspore: str, numpy: str) -> None:
    """MindSpore alone with NumPy 2, which bn3d's dependencies rule out: prints what works."""
    if (session.python, numpy) == ("3.10", "2.4.6"):
        session.skip("NumPy 2.4 has no wheel for Python 3.10")
    session.install(f"mindspore=={mindspore}")
    session.install("--no-deps", f"numpy=={numpy}")
    session.run("python", "-c", OPERATORS)
