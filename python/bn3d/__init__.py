"""Batch normalisation over volumes and video for MindSpore.

`BatchNorm3d` is a drop-in for `mindspore.nn.BatchNorm3d`, `SyncBatchNorm3d` the same over the
batches of many devices; `swap` puts them into a network that exists, `restore` takes them out
again; `info` says which backend computes and why. `from_torch`, `to_torch`,
`convert_state_dict` and `to_torch_state_dict` come and go between PyTorch and MindSpore; `fold`
and `freeze` make a network ready for inference and fine-tuning.

Importing this package imports nothing heavy: MindSpore comes with the first name used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bn3d.commands.info import info
    from bn3d.layers.batch_norm import BatchNorm3d
    from bn3d.layers.sync_batch_norm import SyncBatchNorm3d
    from bn3d.migrate.layer import from_torch, to_torch
    from bn3d.migrate.report import Conversion, ConversionError
    from bn3d.migrate.state_dict import convert_state_dict
    from bn3d.migrate.torch_state_dict import to_torch_state_dict
    from bn3d.networks.folding import FoldReport, fold
    from bn3d.networks.freezing import freeze, unfreeze
    from bn3d.networks.swapping import SwapReport, restore, swap

__version__ = "0.1.0"

__all__ = [
    "BatchNorm3d",
    "Conversion",
    "ConversionError",
    "FoldReport",
    "SwapReport",
    "SyncBatchNorm3d",
    "convert_state_dict",
    "fold",
    "freeze",
    "from_torch",
    "info",
    "restore",
    "swap",
    "to_torch",
    "to_torch_state_dict",
    "unfreeze",
]

_HOME = {
    "BatchNorm3d": "bn3d.layers.batch_norm",
    "Conversion": "bn3d.migrate.report",
    "ConversionError": "bn3d.migrate.report",
    "FoldReport": "bn3d.networks.folding",
    "SwapReport": "bn3d.networks.swapping",
    "SyncBatchNorm3d": "bn3d.layers.sync_batch_norm",
    "convert_state_dict": "bn3d.migrate.state_dict",
    "fold": "bn3d.networks.folding",
    "freeze": "bn3d.networks.freezing",
    "from_torch": "bn3d.migrate.layer",
    "info": "bn3d.commands.info",
    "restore": "bn3d.networks.swapping",
    "swap": "bn3d.networks.swapping",
    "to_torch": "bn3d.migrate.layer",
    "to_torch_state_dict": "bn3d.migrate.torch_state_dict",
    "unfreeze": "bn3d.networks.freezing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'bn3d' has no attribute {name!r}")
    globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
