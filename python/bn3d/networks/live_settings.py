"""Assignments to a swapped layer with PyTorch's arguments.

The stock layer (`mindspore.mint.nn.BatchNorm3d`) reads its attributes at every call, so they may be
assigned to at any time. Once swapped, it computes with a child made from them, which is made anew.
"""

from __future__ import annotations

from collections.abc import Callable

from mindspore import Parameter, nn

from bn3d.backends import process_groups as groups
from bn3d.layers.child import unwrapped
from bn3d.layers.state import attach
from bn3d.layers.sync_batch_norm import SyncBatchNorm3d
from bn3d.mindspore_private.cells import child_or_none, restorer
from bn3d.networks import torch_layers
from bn3d.networks.cells import forget_compiled
from bn3d.networks.freezing import stay_frozen

__all__ = ["insert_parameter", "set_attribute"]

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
    if name == "training" and child_or_none(cell, "bn2d") is not None:
        unwrapped(cell).training = value
    _change(cell, name, lambda: assign(cell, name, value))


def insert_parameter(
    cell: nn.Cell, param_name: str, param: Parameter | None, check_name_contain_dot: bool = True
) -> None:
    """`insert_param_to_cell` of a swapped layer. Raises as `set_attribute`."""
    insert = cell._bn3d_stock_class.insert_param_to_cell
    _change(cell, param_name, lambda: insert(cell, param_name, param, check_name_contain_dot))


def _change(cell: nn.Cell, name: str, change: Callable[[], None]) -> None:
    """Change an attribute, and the child with it."""
    # The layer has no child while it is unpickled.
    if name not in _READ_AT_EVERY_CALL or child_or_none(cell, "bn2d") is None:
        change()
        return
    group = groups.find(cell.process_groups) if isinstance(cell, SyncBatchNorm3d) else None
    child, restore = unwrapped(cell), restorer(cell)
    try:
        change()
        torch_layers.adopt(cell)
        attach(cell, group)
    except BaseException:
        restore()
        raise
    stay_frozen(child, unwrapped(cell))
    forget_compiled(cell)
