"""Options that several commands have: the device, and places to write to.

A place is checked before the work whose result is to be written there.
"""

from __future__ import annotations

import tempfile
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from bn3d import outputs
from bn3d.commands import json_output

__all__ = ["Device", "Json", "file", "folder"]


class Device(str, Enum):
    CPU = "CPU"
    Ascend = "Ascend"


def folder(path: Path) -> Path:
    """Callback of a typer option: make the folder `path`.

    Raises:
        typer.BadParameter: it cannot be made, or not be written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise typer.BadParameter(f"cannot write into {path}: {error.strerror}") from error
    return path


def file(path: Path | None) -> Path | None:
    """Callback of a typer option: `path` must be a file in a folder that exists.

    Raises:
        typer.BadParameter: it is a folder, or cannot be written.
    """
    if path is None:
        return None
    try:
        outputs.check(path)
    except OSError as error:
        raise typer.BadParameter(f"cannot write {path}: {error.strerror}") from error
    return path


def _json(place: str | None) -> str | None:
    try:
        json_output.check(place)
    except OSError as error:
        raise typer.BadParameter(f"cannot write {place}: {error.strerror}") from error
    return place


Json = Annotated[
    str | None,
    typer.Option(
        "--json", metavar="FILE|-", help="Write it there as JSON, - prints it.", callback=_json
    ),
]
