"""What `bn3d info` prints: lines of text as long as they need to be, or JSON."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from pathlib import Path

from bn3d import outputs

__all__ = ["show", "text"]


def show(output: str | None = None, probe: bool = False) -> int:
    """Print what `bn3d.info()` finds, or write it as JSON; returns the exit code.

    Args:
        output: a file for JSON, "-" for standard output, None for text.
        probe: also run each operator once; the exit code is 1 if one fails.
    """
    target = None if output in (None, "-") else Path(output)
    if target is not None and (target.is_dir() or not target.absolute().parent.is_dir()):
        print(f"bn3d: --json: {target} is no file that can be written", file=sys.stderr)
        return 2
    from bn3d.commands.info import info  # noqa: PLC0415, MindSpore takes seconds to load

    try:
        found = info(probe)
    except (ValueError, RuntimeError) as error:
        print(f"bn3d: {error}", file=sys.stderr)
        return 2
    if output is None:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print(text(found.rows(), width))
        return 0 if found.ok else 1
    as_json = json.dumps(found.as_json(), indent=1)
    if target is None:
        print(as_json)
        return 0 if found.ok else 1
    try:
        outputs.write_text(target, as_json + "\n")
    except OSError as error:
        print(f"bn3d: --json: cannot write {target}: {error.strerror}", file=sys.stderr)
        return 2
    outputs.say_written(target)
    return 0 if found.ok else 1


def text(rows: list[tuple[str, str]], width: int | None = None) -> str:
    """Two columns. Where they do not fit into `width`, words go to the next line, never apart."""
    first = max(len(name) for name, _ in rows) + 2
    lines = []
    for name, value in rows:
        if width is None:
            lines.append(f"{name:{first}}{value}")
            continue
        wrapped = textwrap.wrap(
            value,
            max(width - first, 20),
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines += [
            f"{name if index == 0 else '':{first}}{line}"
            for index, line in enumerate(wrapped or [""])
        ]
    return "\n".join(lines)
