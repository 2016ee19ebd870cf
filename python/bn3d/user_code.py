"""Finds and calls a function of the user's that a command names as package.module:function."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["built", "importable_here", "load", "why"]

# A line in them says less than the user's line that calls them.
_LIBRARIES = ("bn3d", "contextlib", "importlib", "mindspore", "numpy")


@contextmanager
def importable_here() -> Iterator[None]:
    """Modules of the working directory can be imported in the block, or the decorated function, as
    by `python -m`. Whatever is put on the path meanwhile stays there.
    """
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(folder)


def load(target: str, option: str) -> Callable[[], Any]:
    """The function.

    Raises:
        ValueError: `target` is not written so, cannot be imported, or is no function; `option`
            names what the user typed it for.
    """
    module, colon, function = target.partition(":")
    if not (module and colon and function):
        raise ValueError(f"{option} must be package.module:function, got {target!r}")
    try:
        found = getattr(importlib.import_module(module), function, None)
    except (Exception, SystemExit) as error:  # the module is the user's, and may raise anything
        raise ValueError(f"{option}: {module} cannot be imported: {why(error)}") from error
    if not callable(found):
        raise ValueError(f"{option}: {module} has no function {function}")
    return found


def built(target: str, option: str) -> Any:
    """What the function returns.

    Raises:
        ValueError: `load` does, or the function itself raises.
    """
    build = load(target, option)
    try:
        return build()
    except (Exception, SystemExit) as error:  # as above
        raise ValueError(f"{option}: {target} failed: {why(error)}") from error


def why(error: BaseException) -> str:
    """What was raised, and where in the user's files."""
    where = [
        f" ({frame.f_code.co_filename}:{line})"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _LIBRARIES
    ]
    said = str(error).strip().partition("\n")[0]
    what = f"{type(error).__qualname__}: {said}".removesuffix(": ")
    if isinstance(error, SystemExit):
        what = f'it ends the process; a script does so below `if __name__ == "__main__":` ({what})'
    return f"{what}{where[-1] if where else ''}"
