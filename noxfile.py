"""Environments: .venv for the tests and the demo, and others for other versions of MindSpore.

scripts/test.sh and scripts/demo.sh call `tests` and `demo`, on any machine with Python and a
compiler. The rest is by hand, after pip install 'nox[uv]':

    nox -s versions numpy2                                    # all that have wheels
    nox -s "versions(python='3.11', mindspore='2.8.0')"       # one; `-- TEST...` for other tests

pythonX.Y must be on the PATH, or uv fetches it. Each of these has an environment of about 2 GB
below .nox/, which `nox -R` uses again.

It is uv that installs, from where pip's settings say: those are what a machine's owner has set.
"""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["versions"]

ROOT = Path(__file__).parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements-test.lock"
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


# A change to any file of these installs bn3d again.
INSTALLED = (
    *("CMakeLists.txt", "CMakePresets.json", "pyproject.toml", LOCK.name),
    *("cmake", "op_impl", "op_proto", "python"),
)

# What uv calls pip's settings.
SETTINGS = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "constraint": "UV_CONSTRAINT",
    "no-index": "UV_OFFLINE",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
}


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """The style, the types and all tests, or those that are named, in .venv."""
    set_up(session, "test,torch")
    for command in ("ruff check .", "ruff format --check .", "mypy"):
        run(session, *command.split())
    sources = session.run("git", "ls-files", "*.cc", "*.h", silent=True, log=False, external=True)
    run(session, "clang-format", "--dry-run", "-Werror", *sources.split())
    # Two at a time, a file in one process: most tests keep one core busy, and some start others.
    # In the order of tests/conftest.py.
    two = ("--numprocesses", "2", "--dist", "loadfile", "--no-loadscope-reorder")
    become("-m", "pytest", *two, *session.posargs)


@nox.session(venv_backend="none")
def demo(session: nox.Session) -> None:
    """The brain segmentation demo, in .venv."""
    set_up(session, "demo")
    os.chdir(session.invoked_from)
    script, output = ROOT / "examples" / "brain_segmentation.py", ROOT / "build" / "demo"
    become(str(script), "--output", str(output), *session.posargs)


def set_up(session: nox.Session, extras: str) -> None:
    """Make .venv, unless there is one, and install bn3d, unless it is the same as before.

    With the extra `test` the versions are those of the lock, on the Python that it was made for.
    """
    usable = "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))"
    python = VENV / "bin" / "python"
    if not python.exists() or subprocess.run([python, "-c", usable], check=False).returncode:
        uv(session, "venv", "--seed", "--clear", "--python", sys.executable, VENV)
    stamp, wanted = VENV / "bn3d.installed", f"{extras} {fingerprint(ROOT)}\n"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    session.warn(f"installing .[{extras}] into {VENV}: the first time takes some minutes")
    install = ("pip", "install", "--python", python)
    version = subprocess.check_output([python, "--version"], text=True).rpartition(".")[0]
    if "test" in extras and LOCK.read_text().startswith(f"# {version};"):
        uv(session, *install, "--require-hashes", "--requirement", LOCK, UV_CONSTRAINT=None)
    uv(session, *install, f"{ROOT}[{extras}]")
    stamp.write_text(wanted)


def fingerprint(root: Path) -> str:
    """Of all that is installed, without what running and building leave there."""
    found = (path for name in INSTALLED for path in ((root / name), *(root / name).rglob("*")))
    digest = hashlib.sha256()
    for path in sorted(path for path in found if path.is_file()):
        if path.suffix not in (".pyc", ".so"):
            digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def uv(session: nox.Session, *command: object, **env: str | None) -> None:
    """Run uv, of nox's environment, with pip's settings."""
    from uv import find_uv_bin  # noqa: PLC0415, other sessions go without

    run(session, find_uv_bin(), command[0], "--quiet", *command[1:], env=uv_settings() | env)


def uv_settings() -> dict[str, str]:
    """What pip is told, in uv's variables, but for those that are set."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    settings = dict(line.split("=", 1) for line in listed.splitlines())
    found = {"UV_INDEX_STRATEGY": "unsafe-best-match"}  # the best of all indexes, as pip does
    for section in ("global", "install", ":env:"):  # the later ones count
        for name, variable in SETTINGS.items():
            if value := settings.get(f"{section}.{name}"):
                words = ast.literal_eval(value).split()
                found[variable] = ("," if name == "find-links" else " ").join(words)
    return {name: value for name, value in found.items() if name not in os.environ}


def run(session: nox.Session, program: str, *arguments: object, **options: object) -> None:
    """Run a program of .venv, or of the machine."""
    path = VENV / "bin" / program  # an absolute one stays
    session.run(str(path), *map(str, arguments), log=False, external=True, **options)


def become(*arguments: str) -> None:
    """Go on as Python of .venv: nox itself ends with 1, whatever its program's exit code was."""
    sys.stdout.flush()
    python = str(VENV / "bin" / "python")
    os.execv(python, [python, *arguments])


@nox.session
@nox.parametrize("python,mindspore", WHEELS)
def versions(session: nox.Session, mindspore: str) -> None:
    """The core of the tests, on bn3d as it is installed."""
    session.env.update(uv_settings())
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
    session.env.update(uv_settings())
    session.install(f"mindspore=={mindspore}")
    session.install("--no-deps", f"numpy=={numpy}")
    session.run("python", "-c", OPERATORS)
