"""`swap` puts bn3d into a network that exists, `restore` takes it out again.

A live cell is not replaced: its class is changed. So every reference to it goes on working,
wherever it is kept: optimizers, EMA copies, checkpoints, parameter groups, hooks, flags,
second lists and dictionaries of cells.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from contextlib import ExitStack

import mindspore as ms
from mindspore import nn

from bn3d import backends, convolutions
from bn3d.backends import process_groups as groups
from bn3d.layers.batch_norm import BatchNorm3d
from bn3d.layers.state import attach, detach
from bn3d.layers.sync_batch_norm import SyncBatchNorm3d
from bn3d.mindspore_private import recompute
from bn3d.mindspore_private.cells import restorer
from bn3d.networks import torch_layers
from bn3d.networks.cells import cells, check_net, forget_compiled
from bn3d.networks.swap_report import SwapReport
from bn3d.networks.swappable import looks_like_one, reason_to_keep, reason_to_leave
from bn3d.networks.swapped_class import Swapped, stock_class, swapped_class

__all__ = ["restore", "swap"]

_said_slow = False


def swap(
    net: nn.Cell,
    also: Iterable[type] = (),
    sync: bool = False,
    process_groups: groups.ProcessGroups = None,
) -> SwapReport:
    """Let every `nn.BatchNorm3d` and `mint.nn.BatchNorm3d` in a network compute with bn3d, in
    place.

    The cells and their `Parameter` objects stay the very same. Subclasses of `nn.BatchNorm3d`
    that keep its `construct` stay subclasses of their class; those with a `construct` of
    their own are left alone with a warning, as are a network's own classes that look like one.

    Every graph that MindSpore has compiled in this process compiles again when it next runs,
    because one that reaches the network may be any: a training step, a `mindspore.jit`.

    Layers are found in whatever the network's attributes lead to: containers, objects, functions
    and what they enclose. Layers that it only uses from globals, attributes of classes or weak
    references are not, and the report does not know of them.

    A layer with PyTorch's arguments (`mint.nn.BatchNorm3d`) keeps its parameters' names; its
    `num_batches_tracked`, of use with momentum None alone, stays as it is, and momentum None
    is left alone.

    Args:
        net: the network, or a bare layer.
        also: further classes to take: a network's own `BatchNorm3d(nn.Cell)` around an
            `nn.BatchNorm2d` in `bn2d`. Their own `construct` runs no more: whatever it does
            beside normalising is lost.
        sync: True makes the cells, layers of bn3d among them, `SyncBatchNorm3d`. Those that
            are stay so, with their groups.
        process_groups: see `SyncBatchNorm3d`; needs `sync`.

    Returns:
        What was changed, what not, and why. Nothing to change is also warned of.

    Raises:
        TypeError: `net` is no Cell, `also` holds something that is no class, or `sync` is no
            bool; see `SyncBatchNorm3d` for `process_groups`.
        RuntimeError: BN3D_BACKEND asks for a backend that does not work here; see also
            `SyncBatchNorm3d`.
        ValueError: `process_groups` without `sync`; a cell of a class in `also` is not built
            like `nn.BatchNorm3d`; BN3D_BACKEND or BN3D_REDUCTIONS has an unknown value.

    Nothing was changed when it raises.

    Supported Platforms:
        ``Ascend`` ``CPU``

    Examples:
        >>> net = nn.SequentialCell(nn.Conv3d(1, 8, 3), nn.BatchNorm3d(8))
        >>> print(bn3d.swap(net))
        1 of 1 BatchNorm3d now compute with bn3d (...): 1
        >>> isinstance(net[1], bn3d.BatchNorm3d)
        True
    """
    also = _check(net, also)
    _check_sync(sync, process_groups)
    group = groups.find(process_groups) if sync else None
    done = SyncBatchNorm3d if sync else BatchNorm3d
    report = SwapReport(done=f"now compute with bn3d ({backends.choose().backend.label})")
    _say_slow_convolutions(net)
    to_swap = []
    for name, cell in cells(net):
        if isinstance(cell, done):
            report.already.append(name)
        elif isinstance(cell, BatchNorm3d):
            to_swap.append((name, cell))
        elif isinstance(cell, torch_layers.STOCK + also) or looks_like_one(cell):
            reason = reason_to_leave(cell, also)
            if reason is None:
                to_swap.append((name, cell))
            else:
                report.left[name] = reason
                warnings.warn(f"bn3d.swap leaves {name!r} alone: {reason}", stacklevel=2)
    if to_swap:
        # If attaching raises, it raises here, before anything has changed.
        attach(BatchNorm3d(1), group)
    classes = [swapped_class(stock_class(cell), sync) for _, cell in to_swap]
    with ExitStack() as undo:
        for (_, cell), cls in zip(to_swap, classes, strict=True):
            undo.callback(_put_back, cell, type(cell), restorer(cell))
            _change(cell, cls, group)
            if sync:
                nn.Cell.__setattr__(cell, "process_groups", process_groups)
        if to_swap:
            forget_compiled(net)
        undo.pop_all()
    report.changed += [name for name, _ in to_swap]
    if not to_swap and not report.already and not report.left:
        warnings.warn(
            f"bn3d.swap found no mindspore.nn.BatchNorm3d to change in {type(net).__name__}; "
            "a network with a BatchNorm3d class of its own needs swap(net, also=(ThatClass,))",
            stacklevel=2,
        )
    return report


def _say_slow_convolutions(net: nn.Cell) -> None:
    """Once per process: beside slow convolutions the time of the norm layers does not matter."""
    global _said_slow  # noqa: PLW0603, a process is told once
    if _said_slow or ms.get_context("device_target") != "CPU" or not convolutions.are_slow():
        return
    if any(isinstance(cell, nn.Conv3d | nn.Conv3dTranspose) for _, cell in net.cells_and_names()):
        _said_slow = True
        warnings.warn(
            "MindSpore's 3-D convolutions are slow on this processor: with "
            f"{convolutions.SETTING} in the environment before Python starts they are "
            f"not; that makes {convolutions.GAIN}",
            stacklevel=3,
        )


def restore(net: nn.Cell) -> SwapReport:
    """Undo `swap`: every cell gets the class back that it had. A layer built as
    `bn3d.BatchNorm3d` is what it was, or becomes it again. Compiled graphs compile again. A frozen
    layer with PyTorch's arguments is left, with a warning: `unfreeze` it first.

    Args:
        net: the network, or a bare layer.

    Returns:
        What was changed, what not, and why.

    Raises:
        TypeError: `net` is no Cell.

    Supported Platforms:
        ``Ascend`` ``CPU``

    Examples:
        >>> net = nn.SequentialCell(nn.Conv3d(1, 8, 3), nn.BatchNorm3d(8))
        >>> report = bn3d.swap(net)
        >>> print(bn3d.restore(net))
        1 of 1 BatchNorm3d are MindSpore's own again: 1
        >>> type(net[1])
        <class 'mindspore.nn.layer.normalization.BatchNorm3d'>
    """
    _check(net, ())
    report = SwapReport(done="are MindSpore's own again")
    to_restore = []
    for name, cell in cells(net):
        if isinstance(cell, Swapped):
            reason = reason_to_keep(cell)
            if reason is None:
                to_restore.append((name, cell))
            else:
                report.left[name] = reason
                warnings.warn(f"bn3d.restore leaves {name!r} alone: {reason}", stacklevel=2)
        elif isinstance(cell, torch_layers.STOCK):
            report.already.append(name)
    with ExitStack() as undo:
        for _, cell in to_restore:
            undo.callback(_put_back, cell, type(cell), restorer(cell))
            _change_back(cell)
        if to_restore:
            forget_compiled(net)
        undo.pop_all()
    report.changed += [name for name, _ in to_restore]
    return report


def _change(cell: nn.Cell, cls: type[Swapped], group: groups.Membership | None) -> None:
    if torch_layers.is_new_style(cell) and not isinstance(cell, Swapped):
        torch_layers.adopt(cell)
    attach(cell, group)
    object.__setattr__(cell, "__class__", cls)
    if not issubclass(cls._bn3d_stock_class, BatchNorm3d):
        recompute.follow_class(cell)


def _change_back(cell: Swapped) -> None:
    stock = cell._bn3d_stock_class
    if issubclass(stock, BatchNorm3d):
        attach(cell)  # without a group
    else:
        detach(cell)
    if torch_layers.is_new_style(cell):
        torch_layers.release(cell)
    object.__setattr__(cell, "__class__", stock)
    cell.__dict__.pop("process_groups", None)
    if not issubclass(stock, BatchNorm3d):
        recompute.follow_class(cell)


def _put_back(cell: nn.Cell, cls: type, restore: Callable[[], None]) -> None:
    object.__setattr__(cell, "__class__", cls)
    restore()
    recompute.follow_class(cell)


def _check(net: nn.Cell, also: Iterable[type]) -> tuple[type, ...]:
    check_net(net)
    if isinstance(also, type):
        raise TypeError(f"'also' must be a tuple of classes, got the class {also.__name__}")
    if not isinstance(also, Iterable):
        raise TypeError(f"'also' must be a tuple of classes, got {also!r} ({type(also).__name__})")
    also = tuple(also)
    for cls in also:
        if not isinstance(cls, type):
            raise TypeError(f"'also' must hold classes, got {cls!r} ({type(cls).__name__})")
    return also


def _check_sync(sync: bool, process_groups: groups.ProcessGroups) -> None:
    if not isinstance(sync, bool):
        raise TypeError(f"'sync' must be a bool, got {sync!r} ({type(sync).__name__})")
    if process_groups is not None and not sync:
        raise ValueError(f"'process_groups' needs sync=True, got {process_groups!r} without")
