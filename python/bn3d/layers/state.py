"""What a cell of bn3d holds beside the stock layer's attributes, and how it is pickled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mindspore as ms
from mindspore import Tensor, nn, ops

from bn3d import backends
from bn3d.backends import split, synchronised
from bn3d.backends.process_groups import Membership
from bn3d.layers.child import BatchNorm2d, unwrapped
from bn3d.mindspore_private import cells as private

__all__ = ["attach", "attach_later", "detach", "fixed_settings", "get_state", "set_state"]

_ATTACHED = (
    "_bn3d_forward_training",
    "_bn3d_forward_inference",
    "_bn3d_settings",
    "_bn3d_settings_without_update",
    "_bn3d_half",
    "_bn3d_backend",
)


def fixed_settings(cell: nn.BatchNorm3d) -> tuple[float, float]:
    """Eps and momentum of a stock cell, from the operator that it computes with: they were
    fixed when it was built, whatever was assigned to `cell.bn2d.eps` since.
    """
    eps, weight_of_new = private.settings_of_operator(unwrapped(cell))
    return eps, 1 - weight_of_new


def attach(cell: nn.BatchNorm3d, group: Membership | None = None) -> None:
    """Give a cell what `BatchNorm3d.construct` needs beside the stock attributes; the devices
    of `group` share their batch statistics.

    Raises:
        ValueError, RuntimeError: as `backends.choose` and the backend's `settings`; the cell is
            as it was.
    """
    backend = backends.choose().backend
    functions: backends.Backend | split.Split = backend
    settings: Callable[[float, float], Any] = backend.settings
    if group is not None:
        functions, settings = synchronised.build(backend, group), split.settings
    eps, momentum = fixed_settings(cell)
    attached = {
        "_bn3d_forward_training": functions.forward_training,
        "_bn3d_forward_inference": functions.forward_inference,
        "_bn3d_settings": settings(eps, momentum),
        "_bn3d_settings_without_update": settings(eps, 1.0),
        "_bn3d_half": Tensor([0], ms.float16),
        "_bn3d_backend": backend.label,
    }
    for name, value in attached.items():
        nn.Cell.__setattr__(cell, name, value)  # not by a __setattr__ of the network's own


def attach_later(cell: nn.BatchNorm3d) -> None:
    """`attach` without the forward pass of training: that needs its group of devices first."""
    attach(cell, Membership("", size=1, place=0))
    del cell._bn3d_forward_training


def detach(cell: nn.BatchNorm3d) -> None:
    """Take away what `attach` gave."""
    for name in _ATTACHED:
        if name in vars(cell) or name != "_bn3d_forward_training":
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
        "cell": private.state_without_operators(cell, _ATTACHED),
        "bn2d": (type(inner), private.state_without_operators(inner, _ATTACHED)),
        "around bn2d": None if inner is cell.bn2d else (type(cell.bn2d), cell.bn2d.dtype),
    }


def set_state(cell: nn.BatchNorm3d, state: dict[str, Any], attach: Callable[[], None]) -> None:
    """Give a new cell the state that `get_state` returned; `attach` gives it the backend of this
    process.
    """
    inner_class, inner_state = state["bn2d"]
    operators = _cell_like(inner_class, state["eps"], state["momentum"])
    inner = inner_class.__new__(inner_class)
    private.set_state_with_operators(inner, inner_state, operators.bn2d)
    if state["around bn2d"] is not None:
        wrapper, dtype = state["around bn2d"]
        inner = wrapper(inner, dtype)
    private.set_state_with_operators(cell, state["cell"], operators)
    private.put_child(cell, "bn2d", inner, first=True)
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
