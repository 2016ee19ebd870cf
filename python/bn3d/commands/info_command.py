"""What `bn3d info` prints: lines of text, or JSON. It needs neither typer nor rich."""

from __future__ import annotations

import sys

from bn3d import tables
from bn3d.commands import json_output

__all__ = ["show"]


def show(output: str | None = None, probe: bool = False) -> int:
    """Print what `bn3d.info()` finds, or write it as JSON; returns the exit code.

    Args:
        output: a file for JSON, "-" for standard output, None for text.
        probe: also run each operator once; the exit code is 1 if one fails.
    """
    try:
        json_output.check(output)
    except OSError as error:
        return _refused(f"--json: cannot write {output}: {error.strerror}")
    from bn3d.commands.info import info  # noqa: PLC0415, MindSpore takes seconds to load

    try:
        found = info(probe)
    except (ValueError, RuntimeError) as error:
        return _refused(str(error))
    if output is None:
        print(tables.pairs(found.rows(), tables.width_of()))
        return 0 if found.ok else 1
    try:
        json_output.write(output, found.as_json())
    except OSError as error:
        return _refused(f"--json: cannot write {output}: {error.strerror}")
    return 0 if found.ok else 1


def _refused(why: str) -> int:
    print(f"bn3d: {why}", file=sys.stderr)
    return 2
