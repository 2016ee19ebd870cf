"""Batch normalisation over volumes and video for MindSpore.

`BatchNorm3d` is a drop-in for `mindspore.nn.BatchNorm3d`, `SyncBatchNorm3d` the same over the
batches of many devices; `swap` puts them into a network that exists, `restore` takes them out
again; `info` says which backend computes and why.

Importing this package imports nothing heavy: MindSpore comes with the first name used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bn3d.batch_norm import BatchNorm3d
    from bn3d.environment import info
    from bn3d.swap import SwapReport, restore, swap
    from bn3d.sync_batch_norm import SyncBatchNorm3d

__version__ = "0.1.0"

__all__ = ["BatchNorm3d", "SwapReport", "SyncBatchNorm3d", "info", "restore", "swap"]

_HOME = {
    "BatchNorm3d": "bn3d.batch_norm",
    "SwapReport": "bn3d.swap",
    "SyncBatchNorm3d": "bn3d.sync_batch_norm",
    "info": "bn3d.environment",
    "restore": "bn3d.swap",
    "swap": "bn3d.swap",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'bn3d' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
