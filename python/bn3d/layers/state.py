"""What a cell of bn3d holds beside the stock layer's attributes, and how it is pickled."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import mindspore as ms
from mindspore import Tensor, nn, ops

from bn3d import backends
from bn3d.backends import split, synchronised
from bn3d.backends.process_groups import Membership
from bn3d.layers.child import BatchNorm2d, unwrapped

__all__ = ["attach", "attach_later", "detach", "fixed_settings", "get_state", "set_state"]

_ATTACHED = (
    "_forward_training",
    "_forward_inference",
    "_settings",
    "_settings_without_update",
    "_half",
    "_backend",
)
_MADE_AGAIN = (*_ATTACHED, "_primitives", "_compile_cache", "_cells")


def fixed_settings(cell: nn.BatchNorm3d) -> tuple[float, float]:
    """Eps and momentum of a stock cell, from the operator that it computes with: they were
    fixed when it was built, whatever was assigned to `cell.bn2d.eps` since.
    """
    batch_norm = unwrapped(cell).bn_train
    return float(batch_norm.epsilon), 1 - float(batch_norm.momentum)


def attach(cell: nn.BatchNorm3d, group: Membership | None = None) -> None:
    """Give a cell what `BatchNorm3d.construct` needs beside the stock attributes; the devices
    of `group` share their batch statistics.

    Raises:
        ValueError, RuntimeError: as `backends.choose` and the backend's `settings`; the cell is
            as it was.
    """
    choice = backends.choose()
    backend = choice.module
    functions, settings = backend, backend.settings
    if group is not None:
        functions, settings = synchronised.build(backend, group), split.settings
    eps, momentum = fixed_settings(cell)
    values = (
        functions.forward_training,
        functions.forward_inference,
        settings(eps, momentum),
        settings(eps, 1.0),
        Tensor([0], ms.float16),
        choice.label,
    )
    for name, value in zip(_ATTACHED, values, strict=True):
        nn.Cell.__setattr__(cell, name, value)  # not by a __setattr__ of the network's own


def attach_later(cell: nn.BatchNorm3d) -> None:
    """`attach`, but for the pass in training, which has to wait for a group of devices."""
    attach(cell, Membership("", size=1, place=0))
    del cell._forward_training


def detach(cell: nn.BatchNorm3d) -> None:
    """Take away what `attach` gave."""
    for name in _ATTACHED:
        if name in vars(cell) or name != "_forward_training":
            nn.Cell.__delattr__(cell, name)


def get_state(cell: nn.BatchNorm3d) -> dict[str, Any]:
    """The state of a cell and its bn2d without MindSpore's operators: those can neither be
    pickled nor copied, and `set_state` makes them again.
    """
    eps, momentum = fixed_settings(cell)
    inner = unwrapped(cell)
    return {
        "eps": eps,
        "momentum": momentum,
        "cell": _without_operators(cell),
        "bn2d": (type(inner), _without_operators(inner)),
        "around bn2d": None if inner is cell.bn2d else (type(cell.bn2d), cell.bn2d.dtype),
    }


def set_state(cell: nn.BatchNorm3d, state: dict[str, Any], attach: Callable[[], None]) -> None:
    """Bring a new cell into a state of `get_state`; `attach` gives it the backend of this
    process.
    """
    inner_class, inner_state = state["bn2d"]
    operators = _cell_like(inner_class, state["eps"], state["momentum"])
    inner = inner_class.__new__(inner_class)
    _set_with_operators(inner, inner_state, operators.bn2d)
    if state["around bn2d"] is not None:
        wrapper, dtype = state["around bn2d"]
        inner = wrapper(inner, dtype)
    _set_with_operators(cell, state["cell"], operators)
    cell._cells["bn2d"] = inner
    cell._cells.move_to_end("bn2d", last=False)
    attach()


def _cell_like(inner_class: type, eps: float, momentum: float) -> nn.Cell:
    """A cell with the operators of a layer with such a child."""
    if not issubclass(inner_class, BatchNorm2d):
        return nn.BatchNorm3d(1, eps=eps, momentum=momentum)
    cell = nn.Cell()
    cell.shape = ops.Shape()
    one = Tensor([1.0])
    cell.bn2d = BatchNorm2d(
        1, eps, momentum, None, moving_mean=one, moving_variance=one, gamma=one, beta=one
    )
    return cell


def _without_operators(cell: nn.Cell) -> tuple[Any, dict[str, Any]]:
    base, attributes = nn.Cell.__getstate__(cell)
    kept = {
        name: value
        for name, value in attributes.items()
        if not isinstance(value, ops.Primitive) and name not in _MADE_AGAIN
    }
    others = ((name, sub) for name, sub in attributes["_cells"].items() if name != "bn2d")
    kept["_cells"] = OrderedDict(others)
    return base, kept


def _set_with_operators(cell: nn.Cell, state: tuple[Any, dict], operators: nn.Cell) -> None:
    base, attributes = state
    made = {k: v for k, v in operators.__dict__.items() if isinstance(v, ops.Primitive)}
    attributes = {
        **attributes,
        **made,
        "_primitives": OrderedDict(operators._primitives),
        "_compile_cache": None,
    }
    nn.Cell.__setstate__(cell, (base, attributes))
