"""Stock layers with PyTorch's arguments and parameter names: `mindspore.mint.nn.BatchNorm3d`
today, and `mindspore.nn.BatchNorm3d` as MindSpore announces it. `held` reads either style.

`adopt` gives such a layer the child `bn2d` that `bn3d.BatchNorm3d` computes with, around the
very same `Parameter` objects, so their names, their order and checkpoints stay as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import mindspore as ms
from mindspore import Tensor, mint, nn, ops

from bn3d.layers import child
from bn3d.layers.torch_arguments import from_torch_style
from bn3d.mindspore_private.cells import HasNoState, put_child
from bn3d.networks.cells import cells

__all__ = ["NAMES", "STOCK", "Held", "adopt", "held", "is_new_style", "reason_against", "release"]

STOCK = tuple({nn.BatchNorm3d, mint.nn.BatchNorm3d})

# What PyTorch calls the attributes of a batch norm, and these layers do.
NAMES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


class Held(NamedTuple):
    """What a layer of either style computes with, None where it does without.

    Attributes:
        child: the `nn.BatchNorm2d` that holds it, None in a layer with PyTorch's names.
    """

    child: nn.BatchNorm2d | None
    gamma: Tensor | None
    beta: Tensor | None
    moving_mean: Tensor | None
    moving_variance: Tensor | None


class BatchNorm2d(HasNoState, child.BatchNorm2d):
    """The child of a layer with PyTorch's arguments, around the layer's own parameters."""


def held(norm: nn.Cell) -> Held:
    """Of a batch norm layer; mixed precision may have put a cell around its child."""
    found = [cell for _, cell in cells(norm) if isinstance(cell, nn.BatchNorm2d)]
    if found:
        return Held(found[0], *(getattr(found[0], name) for name in NAMES))
    return Held(None, *(getattr(norm, name, None) for name in NAMES.values()))


def is_new_style(cell: nn.Cell) -> bool:
    """Whether a stock layer has `running_mean` and `track_running_stats` instead of `bn2d`."""
    return hasattr(cell, "track_running_stats") and hasattr(cell, "running_mean")


def reason_against(cell: nn.Cell) -> str | None:
    """Why `adopt` does not take a layer, None if it does."""
    try:
        _style(cell)
    except (TypeError, ValueError) as error:
        return str(error)
    return None


def adopt(cell: nn.Cell) -> None:
    """Give a layer the child `bn2d`. Without affine or statistics of its own it gets ones and zeros
    there. They are Tensors: Parameters would get into checkpoints.
    """
    momentum, use_batch_statistics = _style(cell)
    if cell.running_mean is None:
        momentum = 1.0  # nothing is updated

    def or_constant(parameter, fill):
        return fill((cell.num_features,), ms.float32) if parameter is None else parameter

    inner = BatchNorm2d(
        cell.num_features,
        float(cell.eps),
        momentum,
        use_batch_statistics,
        moving_mean=or_constant(cell.running_mean, ops.zeros),
        moving_variance=or_constant(cell.running_var, ops.ones),
        gamma=or_constant(cell.weight, ops.ones),
        beta=or_constant(cell.bias, ops.zeros),
    )
    inner.set_train(cell.training)
    # Not by assignment, which would rename the parameters after the new child.
    put_child(cell, "bn2d", inner)


def release(cell: nn.Cell) -> None:
    """Take the child away again."""
    del cell.bn2d


def _style(cell: nn.Cell) -> tuple[float, bool | None]:
    return from_torch_style(
        cell.momentum, bool(cell.track_running_stats), cell.running_mean is not None
    )
