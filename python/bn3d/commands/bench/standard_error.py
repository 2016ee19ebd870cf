"""Holds back what C++ writes to standard error while a call is tried: it may be a page.

It waits in a file. The process that started the measuring one made the file's folder, and shows
what is there if the measuring one dies.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["held_back", "hold_back_in", "show"]

_place: Path | None = None


def hold_back_in(place: Path) -> None:
    """Let `held_back` of this process use that file; without, it does nothing."""
    global _place  # noqa: PLW0603, a process has one standard error
    _place = place


def show(place: Path) -> None:
    """Write what is held back there to standard error."""
    if place.exists():
        sys.stderr.flush()
        with place.open("rb") as held:
            while part := held.read(1 << 16):
                os.write(2, part)


@contextmanager
def held_back() -> Iterator[Callable[[], None]]:
    """Hold it back in the block, and write it at the end unless the function given is called."""
    if _place is None:
        yield lambda: None
        return
    sys.stderr.flush()
    standard_error = os.dup(2)
    held = os.open(_place, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(held, 2)
    os.close(held)
    try:
        yield lambda: os.truncate(_place, 0)
    finally:
        sys.stderr.flush()
        os.dup2(standard_error, 2)
        os.close(standard_error)
        show(_place)
        _place.unlink()
