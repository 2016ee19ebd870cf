"""Text that folds between words on a terminal; in a file its lines are as long as they need.

Nothing is cut: a word longer than the terminal is wide stands as it is, at the start of a line.
It needs neither typer nor rich, and a terminal nothing but lines.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import IO

__all__ = ["fold", "pairs", "say", "say_error", "table", "width_of"]

_GAP = "  "


def width_of(stream: IO[str] | None = None) -> int | None:
    """Columns of a terminal, by default standard output; None for a file or a pipe."""
    stream = stream or sys.stdout
    return shutil.get_terminal_size().columns if stream.isatty() else None


def say(text: str, stream: IO[str] | None = None) -> None:
    """Print a text, folded where a terminal is narrower than its lines."""
    print(fold(text, width_of(stream)), file=stream)


def say_error(text: str) -> None:
    """Print it on standard error, as all errors of the commands begin."""
    say(f"bn3d: {text}", sys.stderr)


def fold(text: str, width: int | None, indent: str = _GAP) -> str:
    """Lines longer than `width` go on below, indented; None leaves them."""
    if width is None:
        return text
    lines: list[str] = []
    for line in text.split("\n"):
        before = line[: len(line) - len(line.lstrip())]
        lines += _wrap(line, width, before + indent) if len(line) > width else [line]
    return "\n".join(lines)


def pairs(rows: Sequence[tuple[str, str]], width: int | None = None) -> str:
    """Two columns: a name, and a value that folds within its own."""
    first = max(len(name) for name, _ in rows) + len(_GAP)
    lines = []
    for name, value in rows:
        room = None if width is None else max(width - first, 20)
        parts = [value] if room is None else _wrap(value, room, "") or [""]
        lines += [f"{name if i == 0 else '':{first}}{part}" for i, part in enumerate(parts)]
    return "\n".join(lines)


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], width: int | None = None, names: int = 1
) -> str:
    """A table, its first `names` columns on the left, the numbers on the right.

    Where it is wider than `width`, each row becomes a line of its names, and below them its
    numbers, each behind the head of its column.
    """
    rows = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    if width is None or sum(widths) + len(_GAP) * (len(widths) - 1) <= width:
        rule = ["-" * each for each in widths]
        return "\n".join(_line(row, widths, names) for row in (header, rule, *rows))
    heads = f"{', '.join(filter(None, header[:names]))}:" if any(header[:names]) else ""
    return "\n".join(filter(None, [heads, *(_folded(header, row, width, names) for row in rows)]))


def _line(row: Sequence[str], widths: Sequence[int], names: int) -> str:
    cells = (
        f"{cell:{'<' if i < names else '>'}{width}}"
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return _GAP.join(cells).rstrip()


def _folded(header: Sequence[str], row: Sequence[str], width: int, names: int) -> str:
    lines = [fold(", ".join(filter(None, row[:names])), width)]
    line = ""
    for head, cell in zip(header[names:], row[names:], strict=True):
        if not cell:
            continue
        item = f"{head} {cell}"
        if line and len(line) + len(_GAP) + len(item) > width:
            lines.append(line)
            line = ""
        line += f"{_GAP}{item}"
    return "\n".join([*lines, *filter(None, [line])])


def _wrap(text: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
