"""Methods `construct` that were bound to a cell before its class changes.

MindSpore goes on running the method that the cell had when `Cell.recompute()` was called, whatever
its class is now; mixed precision of level "auto" sets one on the cell itself.
"""

from __future__ import annotations

import inspect
from types import MethodType

from mindspore import nn

__all__ = ["follow_class", "reason_against", "switch_off"]


def reason_against(cell: nn.Cell) -> str | None:
    """Why the cell would not follow a change of its class, None if it does."""
    if "construct" in vars(cell):
        return 'it has a construct set on the layer itself, as mixed precision "auto" does'
    if cell._recompute_cell is not None and _kept_method(cell) is None:
        return "it is recomputed in a way that is not known here; call its recompute() afterwards"
    return None


def follow_class(cell: nn.Cell) -> None:
    """Let an earlier `recompute()` go on with the construct of the class that the cell has now."""
    kept = None if cell._recompute_cell is None else _kept_method(cell)
    if kept is not None:
        holder, name = kept
        setattr(holder, name, cell.construct)


def switch_off(cell: nn.Cell) -> None:
    """Let a backward pass use what the cell computed, until this attribute is put back."""
    cell._recompute_cell = None


def _kept_method(cell: nn.Cell) -> tuple[object, str] | None:
    """The object, and its attribute, that keep the method."""
    handle = cell._recompute_cell
    if isinstance(handle, nn.Cell):  # use_reentrant=True
        holder, name = getattr(handle, "wrap_cell", None), "function"
    else:
        closure = _closure(handle)
        holder, name = closure.get("block"), "cell_contents"
    method = getattr(holder, name, None)
    known = isinstance(method, MethodType) and method.__self__ is cell
    return (holder, name) if known else None


def _closure(function: object) -> dict[str, object]:
    if not inspect.isfunction(function):
        return {}
    return dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
