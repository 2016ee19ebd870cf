"""Asks MindSpore for names that it does not document, and says what is done without them."""

from __future__ import annotations

import importlib
import logging
from typing import Any

import mindspore

__all__ = ["ASKED", "ask"]

# What is done without each name, by its dotted path.
ASKED: dict[str, str] = {}

_logger = logging.getLogger("bn3d")


def ask(path: str, without: str) -> Any:
    """The object at a dotted path; None where this MindSpore has none.

    `without` says what is done then; it is logged as a warning.
    """
    ASKED[path] = without
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        _logger.warning("MindSpore %s has no %s: %s", mindspore.__version__, path, without)
        return None
