"""Finds a function of the user's that a command names as package.module:function."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["load"]


def load(target: str, option: str) -> Callable[[], Any]:
    """The function, looked for in the working directory, too.

    The directory stays on the path: what the function imports when it is called is found as well.

    Raises:
        ValueError: `target` is not written so, cannot be imported, or is no function; `option`
            names what the user typed it for.
    """
    module, colon, function = target.partition(":")
    if not (module and colon and function):
        raise ValueError(f"{option} must be package.module:function, got {target!r}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), function, None)
    except ImportError as error:
        raise ValueError(f"{option}: {module} cannot be imported: {error}") from error
    if not callable(found):
        raise ValueError(f"{option}: {module} has no function {function}")
    return found
