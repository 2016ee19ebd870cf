"""What is printed on a terminal of some width, and into a file."""

from __future__ import annotations

import io
import sys


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(show, monkeypatch, columns: int | None) -> list[str]:
    """The lines that `show` prints on a terminal so wide, or into a file."""
    monkeypatch.setenv("COLUMNS", str(columns or 20))
    monkeypatch.setattr(sys, "stdout", Terminal() if columns else io.StringIO())
    show()
    return sys.stdout.getvalue().splitlines()


def words(lines: list[str]) -> set[str]:
    """Without the rules of tables, and without what stands between names."""
    return {word.rstrip(",:") for line in lines for word in line.split() if set(word) != {"-"}}
