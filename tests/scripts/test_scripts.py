"""Every script reads all of its arguments before it does anything, and says what they are.

The scripts run as copies, beside nothing that they could work on, and with programs on the PATH
that say when they are started.
"""

from __future__ import annotations

import io
import os
import runpy
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SOURCED = {"arguments.sh", "nox.sh"}
SCRIPTS = sorted(
    path.name
    for path in (REPOSITORY / "scripts").iterdir()
    if path.suffix in (".sh", ".py") and path.name not in SOURCED
)
PROGRAMS = (
    *("python", "python3", "python3.10", "python3.11", "python3.12", "pip", "cmake", "ctest"),
    *("git", "ssh", "msrun", "gcc", "g++", "clang++", "apt-get", "tar", "mktemp", "mkdir"),
    *("qemu-aarch64", "bochs", "npu-smi", "uv"),
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the scripts, and what they need to be read."""
    shutil.copytree(REPOSITORY / "scripts", tmp_path / "scripts")
    (tmp_path / "stubs").mkdir()
    for name in PROGRAMS:
        stub = tmp_path / "stubs" / name
        stub.write_text(f'#!/bin/sh\necho {name} "$@" >>"{tmp_path}/started"\nexit 9\n')
        stub.chmod(0o755)
    return tmp_path


def run(place: Path, script: str, *arguments: str) -> subprocess.CompletedProcess:
    variables = {
        "PATH": f"{place / 'stubs'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY / "python"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if script == "deploy.sh":
        variables["PYTHON"] = sys.executable
    if script.endswith(".py"):
        return run_here(place, script, arguments, variables)
    return subprocess.run(
        ["sh" if script == "deploy.sh" else "bash", f"scripts/{script}", *arguments],
        cwd=place,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def run_here(
    place: Path, script: str, arguments: tuple[str, ...], variables: dict[str, str]
) -> subprocess.CompletedProcess:
    """A script in Python, in this process: most import MindSpore, which takes seconds."""
    # check_dsl.py finds its own modules beside it.
    path = (REPOSITORY if script == "check_dsl.py" else place) / "scripts" / script
    command = [str(path), *arguments]
    code: object = 0
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(io.StringIO()) as stdout,
        redirect_stderr(io.StringIO()) as stderr,
    ):
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", command)
        patch.setattr(sys, "path", [str(path.parent), *sys.path])
        patch.chdir(place)
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
    return subprocess.CompletedProcess(command, code, stdout.getvalue(), stderr.getvalue())


def found(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*")}


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_does_nothing_else(script: str, place: Path):
    before = found(place)
    for arguments in (["--help"], ["first", "--help"]):
        if arguments[0] == "first" and script.endswith(".py"):
            continue  # argparse and typer look everywhere
        done = run(place, script, *arguments)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout) > 60 and not done.stderr
    assert found(place) == before  # among it "started"


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_unknown_option_is_refused_first(script: str, place: Path):
    before = found(place)
    for arguments in (["--no-such-option"], ["first", "--no-such-option"]):
        done = run(place, script, *arguments)
        assert done.returncode == 2, done.stderr
        assert "--no-such-option" in done.stderr or "required: " in done.stderr
    assert found(place) == before


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("ascend_first_session.sh", ["one", "two"]),
        ("ascend_first_session.sh", [""]),
        ("ascend_first_session.sh", ["."]),
        ("ascend_first_session.sh", ["../"]),
        ("ascend_first_session.sh", ["/"]),
        ("audit.sh", ["one"]),
        ("build_opp.sh", ["riscv64"]),
        ("demo.sh", ["one"]),
        ("demo.sh", ["--steps", "none"]),
        ("demo.sh", ["--output"]),
        ("fuzz.sh", ["many"]),
        ("lock.sh", ["--upgrade", "one"]),
        ("sanitize.sh", ["address", "addres"]),
        ("test_aarch64.sh", ["0"]),
        ("test_avx512.sh", ["x"]),
        ("test_install.sh", ["wheel", "whel"]),
        ("train_cluster.sh", ["--port", "x", "host"]),
        ("wheels.sh", ["one", "two"]),
        ("ascend_roofline.py", ["one"]),
        ("sync_cost.py", ["one"]),
        ("audit_offline.py", []),
    ],
)
def test_a_wrong_argument_is_refused_first(script: str, arguments: list[str], place: Path):
    before = found(place)
    done = run(place, script, *arguments)
    assert done.returncode == 2 and done.stderr, (done.returncode, done.stderr)
    assert found(place) == before


def test_wheels_go_into_the_folder_of_the_caller(tmp_path: Path):
    python, log = tmp_path / "python", tmp_path / "log"
    python.write_text(f'#!/bin/sh\necho "$*" >> {log}\n')
    python.chmod(0o755)
    script = [str(REPOSITORY / "scripts" / "wheels.sh"), "out"]
    subprocess.run(script, cwd=tmp_path, env={**os.environ, "PYTHON": str(python)}, check=True)
    assert f"-w {tmp_path}/out " in log.read_text()


@pytest.mark.parametrize("folder", ["folder", "folder//"])
def test_a_dry_run_may_stand_after_the_folder(folder: str, place: Path):
    before = found(place)
    done = run(place, "ascend_first_session.sh", folder, "--dry-run")
    assert done.returncode == 0 and "== archive: folder.tar.gz" in done.stdout
    assert found(place) == before


@pytest.mark.parametrize("script", SCRIPTS)
def test_is_executable_and_begins_with_what_it_does(script: str):
    path = REPOSITORY / "scripts" / script
    lines = path.read_text().splitlines()
    if script.endswith(".sh"):
        assert os.access(path, os.X_OK) and lines[0].startswith("#!") and lines[1].startswith("# ")
    else:
        assert any(line.startswith('"""') for line in lines[:2])
