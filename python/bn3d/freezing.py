"""`freeze` fixes batch norm for fine-tuning, `unfreeze` lets it train again."""

from __future__ import annotations

from mindspore import nn

from bn3d import new_style
from bn3d.cells import cells, check_net, forget_compiled

__all__ = ["freeze", "is_frozen", "unfreeze"]

_BEFORE = "_bn3d_before_freeze"


def freeze(net: nn.Cell, *, affine: bool = False) -> list[str]:
    """Let every BatchNorm3d of a network, of bn3d or stock, normalise by its moving statistics
    and leave them as they are, in training mode, too.

    The next `set_train()` does not undo it. Freeze before the optimizer is built, so that it
    gets what is still trained. Compiled graphs compile again, as after `swap`.

    Args:
        net: the network, or a bare layer.
        affine: also fix gamma and beta (`requires_grad=False`).

    Returns:
        The names of the layers that are frozen now.

    Raises:
        TypeError: `net` is no Cell, or `affine` no bool.
        ValueError: the network has no BatchNorm3d, or one that tracks no statistics, or a
            stock layer with PyTorch's arguments; nothing was changed then.
    """
    if not isinstance(affine, bool):
        raise TypeError(f"'affine' must be a bool, got {affine!r} ({type(affine).__name__})")
    layers = _layers(net)
    if not layers:
        raise ValueError(f"bn3d.freeze found no BatchNorm3d in {type(net).__name__}")
    for name, layer in layers:
        if not hasattr(layer, "bn2d"):
            raise ValueError(
                f"bn3d.freeze: {name or 'the layer'} is a stock layer with PyTorch's arguments: "
                "bn3d.swap(net) first"
            )
        if layer.bn2d.use_batch_statistics is True:
            raise ValueError(
                f"bn3d.freeze: {name or 'the layer'} normalises by the batch always "
                "(use_batch_statistics=True); it has no statistics of use to freeze"
            )
    for _, layer in layers:
        bn = layer.bn2d
        if not hasattr(bn, _BEFORE):
            state = (bn.use_batch_statistics, bn.gamma.requires_grad, bn.beta.requires_grad)
            object.__setattr__(bn, _BEFORE, state)
        bn.use_batch_statistics = False
        if affine:
            bn.gamma.requires_grad = bn.beta.requires_grad = False
    forget_compiled(net)
    return [name for name, _ in layers]


def unfreeze(net: nn.Cell) -> list[str]:
    """Undo `freeze`: what was trained before it is trained again.

    Returns:
        The names of the layers that were frozen.

    Raises:
        TypeError: `net` is no Cell.
    """
    thawed = []
    for name, layer in _layers(net):
        if is_frozen(layer):
            bn = layer.bn2d
            before = getattr(bn, _BEFORE)
            bn.use_batch_statistics, bn.gamma.requires_grad, bn.beta.requires_grad = before
            delattr(bn, _BEFORE)
            thawed.append(name)
    if thawed:
        forget_compiled(net)
    return thawed


def is_frozen(layer: nn.Cell) -> bool:
    """Whether `freeze` fixed a layer."""
    return hasattr(getattr(layer, "bn2d", None), _BEFORE)


def _layers(net: nn.Cell) -> list[tuple[str, nn.Cell]]:
    check_net(net)
    return [(name, cell) for name, cell in cells(net) if isinstance(cell, new_style.STOCK)]
