"""Assignments to a swapped layer with PyTorch's arguments.

The stock layer (`mindspore.mint.nn.BatchNorm3d`) reads its attributes at every call, so they may be
assigned to at any time. Once swapped, it computes with a child made from them, which is made anew.
"""

from __future__ import annotations

from mindspore import nn

from bn3d.backends import process_groups as groups
from bn3d.layers.state import attach
from bn3d.layers.sync_batch_norm import SyncBatchNorm3d
from bn3d.mindspore_private.cells import child_or_none, put_child
from bn3d.networks import torch_layers
from bn3d.networks.cells import forget_compiled
from bn3d.networks.freezing import stay_frozen

__all__ = ["set_attribute"]

_READ_AT_EVERY_CALL = (
    "eps",
    "momentum",
    "track_running_stats",
    "weight",
    "bias",
    "running_mean",
    "running_var",
)


def set_attribute(cell: nn.Cell, name: str, value: object) -> None:
    """`__setattr__` of a swapped layer.

    Raises:
        TypeError, ValueError: bn3d does not compute with that value, such as momentum None;
            the layer is as it was.
    """
    assign = cell._bn3d_stock_class.__setattr__
    child = child_or_none(cell, "bn2d")  # none while it is unpickled
    if name == "training" and child is not None:
        child.training = value
    if name not in _READ_AT_EVERY_CALL or child is None:
        assign(cell, name, value)
        return
    group = groups.find(cell.process_groups) if isinstance(cell, SyncBatchNorm3d) else None
    before = getattr(cell, name)
    assign(cell, name, value)
    try:
        torch_layers.adopt(cell)
        attach(cell, group)
    except BaseException:
        assign(cell, name, before)
        put_child(cell, "bn2d", child)
        attach(cell, group)
        raise
    stay_frozen(child, cell.bn2d)
    forget_compiled(cell)
