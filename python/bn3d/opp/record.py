"""What an installation says of itself in its vendor directory. Runs on Python 3.7."""

from __future__ import annotations

import json
from pathlib import Path

from .payload import InstallError, read_info

__all__ = ["RECORD", "is_installed", "read_record"]

RECORD = "install.json"  # what uninstall has to put back


def is_installed(place: Path) -> bool:
    """Whether bn3d installed `place`, though files may be missing by now."""
    return (place / RECORD).exists() or "bn3d_version" in read_info(place)


def read_record(place: Path) -> dict | None:
    """What uninstall has to put back; None if nothing says it.

    Raises:
        InstallError: the file that says it is damaged.
    """
    advice = "remove it, and install again"
    try:
        record = json.loads((place / RECORD).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise InstallError(f"{place / RECORD} is damaged: {error}; {advice}") from error
    if not (
        isinstance(record, dict)
        and isinstance(record.get("config", 0), (str, type(None)))
        and isinstance(record.get("created"), list)
    ):
        raise InstallError(f"{place / RECORD} is damaged: it is not what bn3d wrote; {advice}")
    return record
