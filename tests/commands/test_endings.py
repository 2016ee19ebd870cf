"""How a command ends where the machine lacks something: a line, exit code 2, no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full of Linux")

RAISING = """
import sys
from bn3d import __main__
from bn3d.commands import cli
def app(prog_name):
    raise {}
cli.app = app
__main__.main()
"""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ('OSError(28, "No space left on device", "out.json")', "out.json: No space left on device"),
        ('OSError("out.pt cannot be written")', "out.pt cannot be written"),
        ('MemoryError("1 PiB for an array")', "not enough memory: 1 PiB for an array"),
        ("MemoryError()", "not enough memory"),
    ],
)
def test_what_the_machine_lacks_is_a_line(error, line, child_environment):
    done = subprocess.run(
        [sys.executable, "-c", RAISING.format(error)],
        env=child_environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"bn3d: {line}\n")


def shell(line, environment, folder):
    return subprocess.run(
        ["sh", "-c", line.replace("bn3d", f"'{sys.executable}' -m bn3d")],
        env={**environment, "PYTHONUNBUFFERED": ""},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("line", "code", "output", "error"),
    [
        ("bn3d --version >/dev/full", 2, "", "bn3d: standard output: No space left on device\n"),
        ("bn3d opp status --path . >&-", 1, "", ""),
        ("bn3d opp status --path é", 1, "\\xe9/vendors/bn3d\n", ""),
    ],
)
def test_what_standard_output_cannot_take(line, code, output, error, child_environment, tmp_path):
    done = shell(line, {**child_environment, "PYTHONIOENCODING": "ascii"}, tmp_path)
    assert (done.returncode, done.stderr) == (code, error)
    assert done.stdout.endswith(output)


def test_a_reader_that_has_had_enough_is_told_nothing(child_environment, tmp_path):
    done = shell("(sleep 1; bn3d --version; echo $? >code) | true", child_environment, tmp_path)
    assert (done.stderr, (tmp_path / "code").read_text()) == ("", "1\n")
