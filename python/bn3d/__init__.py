"""Batch normalisation over volumes and video for MindSpore.

`BatchNorm3d` is a drop-in for `mindspore.nn.BatchNorm3d`, `SyncBatchNorm3d` the same over the
batches of many devices; `swap` puts them into a network that exists, `restore` takes them out
again; `cross_check` holds every batch norm layer of a network against NumPy, and `info` says which
backend computes and why. `from_torch`, `to_torch`, `convert_state_dict` and `to_torch_state_dict`
come and go between PyTorch and MindSpore; `fold` and `freeze` make a network ready for inference
and fine-tuning.

Importing this package imports nothing heavy: MindSpore comes with the first name used.
"""

from __future__ import annotations

import importlib
import os

__version__ = "0.1.0"

# The public names and their modules stand once, in the stub beside this file, a line each: type
# checkers and editors read it as well. Not by `ast` and `pathlib`, which take 30 ms to load.
_path = os.path.join(os.path.dirname(__file__), "__init__.pyi")  # noqa: PTH118, PTH120
with open(_path) as _stub:  # noqa: PTH123
    _HOME = {line.split()[-1]: line.split()[1] for line in _stub if line.startswith("from ")}
__all__ = [*_HOME]  # noqa: PLE0604


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'bn3d' has no attribute {name!r}")
    globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
