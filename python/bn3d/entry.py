"""Where the command `bn3d` starts: it needs typer and rich, which a training node has no use for.

They are the extra `cli`. Without them `bn3d info` works all the same.
"""

from __future__ import annotations

import sys

__all__ = ["main"]

_NEEDED = ("typer", "rich")


def main() -> None:
    """Run the command line in `sys.argv`; exit code 2 where it needs what is not installed."""
    try:
        from bn3d.cli import app  # noqa: PLC0415, may be missing what it imports
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        sys.exit(_without_typer_and_rich(sys.argv[1:]))
    app(prog_name="bn3d")


def _without_typer_and_rich(arguments: list[str]) -> int:
    if arguments == ["info"]:
        return _info()
    needed = " ".join(_NEEDED)
    what = f"bn3d {arguments[0]}" if arguments else "bn3d"
    print(
        f"{what} needs {' and '.join(_NEEDED)}, only `bn3d info` does not: "
        f"{sys.executable} -m pip install {needed}",
        file=sys.stderr,
    )
    return 2


def _info() -> int:
    from bn3d.environment import info  # noqa: PLC0415, MindSpore takes seconds to load

    try:
        print(info())
    except (ValueError, RuntimeError) as error:
        print(f"bn3d: {error}", file=sys.stderr)
        return 2
    return 0
