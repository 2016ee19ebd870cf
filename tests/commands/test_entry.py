"""The command without typer and rich: the library alone needs neither."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# None in sys.modules is a module that cannot be imported.
WITHOUT = "import sys; sys.modules.update({name: None for name in sys.argv.pop(1).split(',')});"
START = WITHOUT + "from bn3d.__main__ import main; main()"


def run(program: str, *arguments: str, without: str = "typer,rich", **environment: str):
    return subprocess.run(
        [sys.executable, "-c", program, without, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("without", ["typer,rich", "typer", "rich"])
def test_a_command_says_in_one_line_what_to_install(without):
    done = run(START, "bench", "--quick", without=without)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("bn3d bench needs typer and rich")
    assert line.endswith(f"{sys.executable} -m pip install typer rich")


def test_another_missing_module_is_not_taken_for_them():
    done = run(START, "bench", without="pathlib")
    assert done.returncode == 1
    assert "ModuleNotFoundError: import of pathlib halted" in done.stderr


def test_info_works():
    done = run(START, "info", BN3D_BACKEND="auto")
    assert done.returncode == 0, done.stderr
    for text in ("MindSpore", "backend", "native library"):
        assert text in done.stdout


def test_info_says_what_is_wrong_in_one_line():
    done = run(START, "info", BN3D_BACKEND="cuda")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "bn3d: BN3D_BACKEND must be one of" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_library_needs_neither():
    done = run(WITHOUT + "import bn3d; print(len([getattr(bn3d, name) for name in bn3d.__all__]))")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10


def test_with_them_it_is_the_command_line():
    done = run(START, "--help", without="nothing")
    assert done.returncode == 0, done.stderr
    assert "Usage: bn3d" in done.stdout
