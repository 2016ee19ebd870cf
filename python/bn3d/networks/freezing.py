"""`freeze` fixes batch norm for fine-tuning, `unfreeze` lets it train again."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace

from mindspore import Parameter, nn

from bn3d.layers.child import unwrapped
from bn3d.mindspore_private.graphs import living_cells
from bn3d.networks import torch_layers
from bn3d.networks.cells import cells, check_net, forget_compiled

__all__ = ["freeze", "is_frozen", "stay_frozen", "unfreeze"]

_BEFORE = "_bn3d_before_freeze"


@dataclass(frozen=True, eq=False)
class _Before:
    """What a layer was before it was frozen, and the parameters that were fixed as well, each with
    whether it was trained: gamma and beta of that time, which may have been replaced since.
    """

    use_batch_statistics: bool | None
    fixed: tuple[tuple[Parameter, bool], ...] = ()


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
            stock layer with PyTorch's arguments.

    Nothing was changed when it raises.

    Supported Platforms:
        ``Ascend`` ``CPU``

    Examples:
        >>> bn3d.freeze(nn.SequentialCell(nn.Conv3d(1, 8, 3), nn.BatchNorm3d(8)))
        ['1']
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
        if unwrapped(layer).use_batch_statistics is True:
            raise ValueError(
                f"bn3d.freeze: {name or 'the layer'} normalises by the batch always "
                "(use_batch_statistics=True); it has no statistics of use to freeze"
            )
    children = _children(layers)
    trained = _trained_before()
    with ExitStack() as undo:
        # Every state is recorded before the first change: layers may share gamma and beta.
        records = []
        for bn in children:
            before = vars(bn).get(_BEFORE) or _Before(bn.use_batch_statistics)
            known = {id(parameter) for parameter, _ in before.fixed}
            new = [p for p in _parameters(bn) if affine and id(p) not in known]
            fixed = before.fixed + tuple([(p, trained(p)) for p in new])
            records.append(replace(before, fixed=fixed))
        for bn, record in zip(children, records, strict=True):
            undo.callback(_put_back, bn, *_state(bn))
            object.__setattr__(bn, _BEFORE, record)
            bn.use_batch_statistics = False
            for parameter in _parameters(bn) if affine else ():
                parameter.requires_grad = False
        forget_compiled(net)
        undo.pop_all()
    return [name for name, _ in layers]


def unfreeze(net: nn.Cell) -> list[str]:
    """Undo `freeze`: what was trained before it is trained again. Gamma and beta that are also
    in a layer elsewhere, which is still frozen with `affine=True`, stay frozen with it. A Parameter
    that has taken the place of one of them since is left as it is.

    Args:
        net: the network, or a bare layer.

    Returns:
        The names of the layers that were frozen.

    Raises:
        TypeError: `net` is no Cell.

    Supported Platforms:
        ``Ascend`` ``CPU``

    Examples:
        >>> net = nn.SequentialCell(nn.Conv3d(1, 8, 3), nn.BatchNorm3d(8))
        >>> bn3d.freeze(net) == bn3d.unfreeze(net)
        True
    """
    frozen = [(name, layer) for name, layer in _layers(net) if is_frozen(layer)]
    if not frozen:
        return []
    children = _children(frozen)
    records = [vars(bn)[_BEFORE] for bn in children]
    with ExitStack() as undo:
        for bn in children:
            undo.callback(_put_back, bn, *_state(bn))
        for bn, record in zip(children, records, strict=True):
            bn.use_batch_statistics = record.use_batch_statistics
            object.__delattr__(bn, _BEFORE)
        still_frozen = _frozen_parameters()
        for record in records:
            for parameter, was_trained in record.fixed:
                if id(parameter) not in still_frozen:
                    undo.callback(setattr, parameter, "requires_grad", parameter.requires_grad)
                    parameter.requires_grad = was_trained
        forget_compiled(net)
        undo.pop_all()
    return [name for name, _ in frozen]


def is_frozen(layer: nn.Cell) -> bool:
    """Whether `freeze` fixed a layer."""
    return hasattr(layer, "bn2d") and hasattr(unwrapped(layer), _BEFORE)


def stay_frozen(old: nn.Cell, new: nn.Cell) -> None:
    """Freeze the new child of a layer if its old one is."""
    before = vars(old).get(_BEFORE)
    if before is not None:
        changed = replace(before, use_batch_statistics=new.use_batch_statistics)
        object.__setattr__(new, _BEFORE, changed)
        new.use_batch_statistics = False


def _layers(net: nn.Cell) -> list[tuple[str, nn.Cell]]:
    check_net(net)
    return [(name, cell) for name, cell in cells(net) if isinstance(cell, torch_layers.STOCK)]


def _children(layers: list[tuple[str, nn.Cell]]) -> list[nn.Cell]:
    """The children that hold what is frozen; layers may share one."""
    return list({id(bn): bn for _, layer in layers for bn in [unwrapped(layer)]}.values())


def _parameters(bn: nn.Cell) -> list[Parameter]:
    """Gamma and beta, where they are Parameters: a layer with PyTorch's arguments computes with
    Tensors where it has none.
    """
    return [p for p in (bn.gamma, bn.beta) if isinstance(p, Parameter)]


def _frozen_parameters() -> dict[int, bool]:
    """Whether each gamma and beta that `freeze` fixed anywhere was trained before, by its id.
    Copies and unpickled networks are found as well, so it is asked of the layers themselves.
    """
    return {
        id(parameter): was_trained
        for cell in living_cells()
        if (record := vars(cell).get(_BEFORE)) is not None
        for parameter, was_trained in record.fixed
    }


def _trained_before():
    frozen = _frozen_parameters()
    return lambda parameter: frozen.get(id(parameter), parameter.requires_grad)


def _state(bn: nn.Cell) -> tuple:
    trained = [(parameter, parameter.requires_grad) for parameter in _parameters(bn)]
    return vars(bn).get(_BEFORE), bn.use_batch_statistics, trained


def _put_back(
    bn: nn.Cell,
    before: _Before | None,
    use_batch_statistics: bool | None,
    trained: list[tuple[Parameter, bool]],
) -> None:
    vars(bn).pop(_BEFORE, None)
    if before is not None:
        object.__setattr__(bn, _BEFORE, before)
    bn.use_batch_statistics = use_batch_statistics
    for parameter, requires_grad in trained:
        parameter.requires_grad = requires_grad
