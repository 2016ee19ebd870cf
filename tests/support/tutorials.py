"""Tutorials: their blocks, and whether these print what stands below them.

A block of Python with a title is a file; all others are one program, from top to bottom. A block of
console lines has commands after "$ ", which that program runs where it comes to them. What a block
prints is the indented text, or the rest of the console block, below it; "..." stands for anything,
and lines may break elsewhere.
"""

from __future__ import annotations

import doctest
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"
_BLOCK = re.compile(
    r'^```(?P<language>python|console)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```\n'
    r"(?P<output>(?:\n(?:    [^\n]*\n)+)?)",
    re.MULTILINE | re.DOTALL,
)
_MARK = "---- block {} ----"
_RUN = """
import contextlib as _contextlib, io as _io
from typer.main import get_command as _get_command
from bn3d.commands.cli import app as _app
with _contextlib.redirect_stderr(_io.StringIO()) as _said, _contextlib.suppress(SystemExit):
    _get_command(_app).main({words!r}, prog_name="bn3d")
print(_said.getvalue(), end="")
"""


@dataclass(frozen=True)
class Block:
    """`code` of Python; `command` to run; a file `title`. And what it prints."""

    code: str = ""
    command: str = ""
    title: str = ""
    output: str = ""


def blocks(path: Path) -> list[Block]:
    """All of a tutorial, in its order."""
    found = []
    for match in _BLOCK.finditer(path.read_text(encoding="utf-8")):
        text, output = match["text"], match["output"]
        if match["language"] == "python":
            shown = re.sub(r"^    ", "", output.strip("\n"), flags=re.MULTILINE)
            found.append(Block(code=text, title=match["title"] or "", output=shown))
            continue
        for each in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, printed = each.partition("\n")
            found.append(Block(command=command, output=printed.rstrip("\n")))
    return found


def write_files(found: list[Block], folder: Path) -> None:
    for block in found:
        if block.title:
            (folder / block.title).write_text(block.code, encoding="utf-8")


def run(found: list[Block], folder: Path, environment: dict) -> list[str]:
    """What each block prints, in a new process in `folder`; a file prints nothing."""
    write_files(found, folder)
    program = ""
    for number, block in enumerate(found):
        program += f"print({_MARK.format(number)!r}, flush=True)\n"
        if block.command:
            command, *words = shlex.split(block.command)
            assert command == "bn3d", block
            program += _RUN.format(words=words)
        elif not block.title:
            program += block.code
    (folder / "tutorial.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "tutorial.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
    return re.split(r"^---- block \d+ ----\n", done.stdout, flags=re.MULTILINE)[1:]


def agrees(printed: str, expected: str) -> bool:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(f"{expected}\n", f"{printed.rstrip()}\n", flags)
