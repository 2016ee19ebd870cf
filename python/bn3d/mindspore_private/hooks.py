"""The hooks of cells."""

from __future__ import annotations

from mindspore import nn

__all__ = ["has_any", "has_forward_hooks"]

_FORWARD = ("_forward_hook", "_forward_pre_hook")
_ALL = (*_FORWARD, "_backward_hook", "_backward_pre_hook")


def has_forward_hooks(cell: nn.Cell) -> bool:
    """Whether a cell has hooks that see or change what it gets or gives."""
    return _has(cell, _FORWARD)


def has_any(cell: nn.Cell) -> bool:
    """Whether a cell has hooks of any kind."""
    return _has(cell, _ALL)


def _has(cell: nn.Cell, names: tuple[str, ...]) -> bool:
    # Not by the properties of 2.9 and later, which create what they are asked for.
    return any(vars(cell).get(f"{lazy}{name}") for name in names for lazy in ("", "_lazy"))
