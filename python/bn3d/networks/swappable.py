"""Which cells `swap` takes and `restore` gives back, and why not the others."""

from __future__ import annotations

import inspect

from mindspore import nn

from bn3d.layers import child
from bn3d.layers.batch_norm import BatchNorm3d
from bn3d.mindspore_private import precision, recompute
from bn3d.mindspore_private.cells import children
from bn3d.networks import torch_layers
from bn3d.networks.cells import cells
from bn3d.networks.freezing import is_frozen
from bn3d.networks.swapped_class import Swapped

__all__ = ["looks_like_one", "reason_to_keep", "reason_to_leave"]


def reason_to_leave(cell: nn.Cell, also: tuple[type, ...]) -> str | None:
    """Why a cell is not swapped, None where it is. Raises if one of `also` is not alike."""
    kind = type(cell)
    if precision.is_rewritten(kind):
        return f"MindSpore's amp level O1 made {kind.__name__} of it: swap before that"
    if isinstance(cell, torch_layers.STOCK) and torch_layers.is_new_style(cell):
        return (
            _own_construct(kind)
            or torch_layers.reason_against(cell)
            or recompute.reason_against(cell)
        )
    return _reason_against_build(cell, also)


def _reason_against_build(cell: nn.Cell, also: tuple[type, ...]) -> str | None:
    kind = type(cell)
    asked_for = bool(also) and isinstance(cell, also)
    inner = child.unwrapped(cell) if hasattr(cell, "bn2d") else None
    if not isinstance(inner, nn.BatchNorm2d):
        text = f"{kind.__qualname__} has no mindspore.nn.BatchNorm2d in 'bn2d'"
        if asked_for:
            raise ValueError(f"'also': {text}, got {type(inner).__name__}")
        return text
    inputs = list(inspect.signature(cell.construct).parameters)
    if len(inputs) != 1:
        text = f"{kind.__qualname__}.construct must take one input, got {inputs}"
        if asked_for:
            raise ValueError(f"'also': {text}")
        return text
    if type(inner).construct is not nn.BatchNorm2d.construct:
        return f"its bn2d, a {type(inner).__qualname__}, has a construct of its own"
    if not asked_for and (own := _own_construct(kind)):
        return (
            f"{own}; swap(net, also=({kind.__name__},)) takes it all the same, and that construct "
            "runs no more"
        )
    return recompute.reason_against(cell)


def reason_to_keep(cell: Swapped) -> str | None:
    """Why a cell is not restored, None where it is."""
    if issubclass(cell._bn3d_stock_class, BatchNorm3d):
        return None
    if torch_layers.is_new_style(cell) and is_frozen(cell):
        return "it is frozen: bn3d.unfreeze(net) first"  # that is kept in the child bn2d
    return recompute.reason_against(cell)


def looks_like_one(cell: nn.Cell) -> bool:
    """Whether a network's own class may be a batch norm over volumes: by its name, or because
    it is nothing but an `nn.BatchNorm2d` in `bn2d`.
    """
    if type(cell).__module__.startswith(("mindspore.", "bn3d.")):
        return False
    named = "batchnorm3d" in type(cell).__name__.lower().replace("_", "")
    alone = list(children(cell)) == ["bn2d"] and isinstance(cell.bn2d, nn.BatchNorm2d)
    if not (named or alone):
        return False
    # One that wraps a stock layer is not left alone: that layer is found by itself.
    return not any(isinstance(inner, torch_layers.STOCK) for _, inner in cells(cell))


def _own_construct(kind: type[nn.Cell]) -> str | None:
    if any(kind.construct is stock.construct for stock in torch_layers.STOCK):
        return None
    return f"{kind.__module__}.{kind.__qualname__} has a construct of its own"
