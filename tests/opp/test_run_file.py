"""The package as a program: what its part in shell says before Python takes over."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import names


@pytest.mark.parametrize(
    "command",
    [[sys.executable, "-I"], ["sh"], ["bash"], []],
    ids=["python", "sh", "bash", "itself"],
)
def test_runs_by_itself(command: list[str], run_file: Path, tmp_path: Path):
    """Without the bn3d of this environment."""
    done = subprocess.run(
        [*command, str(run_file), "install", "--path", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "vendors" / "bn3d" / "version.info").is_file()


def test_an_interrupted_installation_is_one_line_and_none(run_file: Path, tmp_path: Path):
    program = (
        "import os, runpy, signal, sys\n"
        "del sys.argv[0]\n"
        "os.fsync = lambda file: os.kill(os.getpid(), signal.SIGINT)\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(run_file), "install", "--path", str(tmp_path / "new")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")
    assert names(tmp_path) == []


def test_says_that_python_is_missing(run_file: Path):
    done = subprocess.run(
        ["/bin/sh", str(run_file)], capture_output=True, text=True, check=False, env={"PATH": "/no"}
    )
    assert (done.returncode, done.stderr) == (2, "error: python3 was not found\n")


def run_damaged(content: bytes, directory: Path, **variables: str):
    (directory / "damaged.run").write_bytes(content)
    return subprocess.run(
        ["sh", "damaged.run", "install", "--path", "new"],
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
        env={"PATH": os.environ["PATH"], **variables},
    )


def test_of_a_file_that_was_cut_nothing_runs(run_file: Path, tmp_path: Path):
    content = run_file.read_bytes()
    begins = content.index(b"PK\3\4")  # before it is the shell's part
    for length in (12, begins // 4, begins // 2, begins - 1, begins, 20000, len(content) - 1):
        done = run_damaged(content[:length], tmp_path)
        assert done.returncode == 2 and "Traceback" not in done.stderr, (length, done)
        if length >= begins - 1:
            assert done.stderr.startswith("error: the package is damaged: damaged.run "), length
    assert names(tmp_path) == ["damaged.run"]


def test_the_installer_in_the_file_is_checked_too(run_file: Path, tmp_path: Path):
    content = bytearray(run_file.read_bytes())
    content[content.index(b"bn3d/opp/installer.py") + 100] ^= 1
    done = run_damaged(content, tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith("error: the package is damaged: damaged.run ")


def test_says_that_python_is_too_old(run_file: Path, tmp_path: Path):
    fake = tmp_path / "bin" / "python3"
    fake.parent.mkdir()
    program = "import sys; sys.version_info = (3, 6, 9); exec(sys.argv.pop(1))"
    fake.write_text(f"#!/bin/sh\nshift 2\nexec {sys.executable} -c '{program}' \"$@\"\n")
    fake.chmod(0o755)
    path = f"{fake.parent}:{os.environ['PATH']}"
    done = run_damaged(run_file.read_bytes(), tmp_path, PATH=path)
    assert (done.returncode, done.stderr) == (2, "error: python3 must be 3.7 or later, it is 3.6\n")
