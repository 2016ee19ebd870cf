"""`--json FILE|-`: results as JSON in a file, or on standard output with nothing else there."""

from __future__ import annotations

import json
import sys
from typing import IO, Any

from bn3d import outputs

__all__ = ["STANDARD_OUTPUT", "check", "stream_beside", "write"]

STANDARD_OUTPUT = "-"


def check(place: str | None) -> None:
    """Find out before the work whether `write` can write there.

    Raises:
        OSError: it cannot.
    """
    if place not in (None, STANDARD_OUTPUT):
        outputs.check(place)


def write(place: str, results: Any) -> None:
    """Write `results` there, and say so unless they were printed.

    Raises:
        OSError: it cannot be written.
    """
    text = json.dumps(results, indent=1) + "\n"
    if place == STANDARD_OUTPUT:
        sys.stdout.write(text)
        return
    outputs.write_text(place, text)
    outputs.say_written(place)


def stream_beside(place: str | None) -> IO[str]:
    """Where all else is to be printed, such as progress."""
    return sys.stderr if place == STANDARD_OUTPUT else sys.stdout
