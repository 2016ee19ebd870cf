"""`swap` puts bn3d into a network that exists, `restore` takes it out again.

A live cell is not replaced: its class is changed. So every reference to it goes on working,
wherever it is kept: optimizers, EMA copies, checkpoints, parameter groups, hooks, flags,
second lists and dictionaries of cells.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from abc import ABCMeta
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import mindspore as ms
from mindspore import mint, nn

from bn3d import backends, convolutions
from bn3d.backends import process_groups as groups
from bn3d.layers import child
from bn3d.layers.batch_norm import BatchNorm3d
from bn3d.layers.state import attach, detach
from bn3d.layers.sync_batch_norm import SyncBatchNorm3d
from bn3d.mindspore_private import recompute
from bn3d.mindspore_private.cells import children, restorer
from bn3d.networks import live_settings, torch_layers
from bn3d.networks.cells import cells, check_net, forget_compiled
from bn3d.networks.freezing import is_frozen
from bn3d.networks.swap_report import SwapReport

__all__ = ["SwapReport", "restore", "swap"]

_said_slow = False


class _Swapped(BatchNorm3d):
    """Marks the classes that `swap` gives to cells, for `restore`."""

    _bn3d_stock_class: type[nn.Cell]

    def __reduce__(self):
        # The class exists in this process only: it is made again from the stock one.
        sync = isinstance(self, SyncBatchNorm3d)
        return _unpickled, (self._bn3d_stock_class, sync), self.__getstate__()


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
            `nn.BatchNorm2d` in `bn2d`.
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
        elif isinstance(cell, torch_layers.STOCK + also) or _looks_like_one(cell):
            reason = _reason_to_leave(cell, also)
            if reason is None:
                to_swap.append((name, cell))
            else:
                report.left[name] = reason
                warnings.warn(f"bn3d.swap leaves {name!r} alone: {reason}", stacklevel=2)
    if to_swap:
        # If attaching raises, it raises here, before anything has changed.
        attach(BatchNorm3d(1), group)
    classes = [_swapped_class(_stock_class(cell), sync) for _, cell in to_swap]
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
        if isinstance(cell, _Swapped):
            reason = _reason_to_keep(cell)
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


def _stock_class(cell: nn.Cell) -> type:
    return cell._bn3d_stock_class if isinstance(cell, _Swapped) else type(cell)


def _change(cell: nn.Cell, cls: type[_Swapped], group: groups.Membership | None) -> None:
    if torch_layers.is_new_style(cell) and not isinstance(cell, _Swapped):
        torch_layers.adopt(cell)
    attach(cell, group)
    object.__setattr__(cell, "__class__", cls)
    if not issubclass(cls._bn3d_stock_class, BatchNorm3d):
        recompute.follow_class(cell)


def _change_back(cell: _Swapped) -> None:
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


def _reason_to_leave(cell: nn.Cell, also: tuple[type, ...]) -> str | None:
    """Why a cell is not swapped, None where it is. Raises if one of `also` is not alike."""
    kind = type(cell)
    asked_for = bool(also) and isinstance(cell, also)
    if isinstance(cell, torch_layers.STOCK) and torch_layers.is_new_style(cell):
        return (
            _own_construct(kind)
            or torch_layers.reason_against(cell)
            or recompute.reason_against(cell)
        )
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
        return f"{own}; swap(net, also=({kind.__name__},)) takes it all the same"
    return recompute.reason_against(cell)


def _reason_to_keep(cell: _Swapped) -> str | None:
    """Why a cell is not restored, None where it is."""
    if issubclass(cell._bn3d_stock_class, BatchNorm3d):
        return None
    if torch_layers.is_new_style(cell) and is_frozen(cell):
        return "it is frozen: bn3d.unfreeze(net) first"  # that is kept in the child bn2d
    return recompute.reason_against(cell)


def _looks_like_one(cell: nn.Cell) -> bool:
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


class _Unannounced:
    """Keeps the `__init_subclass__` of a network's class from hearing of the class that `swap`
    makes: a registry would hand it out, or a required argument be missing.
    """

    __slots__ = ()

    def __init_subclass__(cls, **_):
        pass


def _extend_repr(cell: _Swapped) -> str:
    return f"{cell._bn3d_stock_class.extend_repr(cell)}, {BatchNorm3d.extend_repr(cell)}"


@functools.cache
def _swapped_class(stock: type[nn.Cell], sync: bool) -> type[_Swapped]:
    """The subclass of a stock class that computes with bn3d. It keeps its name: MindSpore's
    rewriting tools and many networks look cells up by it. It is of this module: in those of
    `mindspore`, `mindspore.jit(capture_mode="bytecode")` loses what a cell does to its parameters.
    """
    bases = (_Swapped, SyncBatchNorm3d) if sync else (_Swapped,)
    if stock not in (nn.BatchNorm3d, BatchNorm3d):
        bases = (_Unannounced, stock, *bases)
    namespace = {"__module__": __name__, "__qualname__": stock.__qualname__}
    # A metaclass of the network's may keep a registry, too. That of abstract classes has to know.
    make = ABCMeta if issubclass(type(stock), ABCMeta) else type
    cls: Any = make.__new__(type(stock), stock.__name__, bases, namespace)
    # Not in the namespace, from where a `__set_name__` would be called.
    attributes = {"__reduce__": _Swapped.__reduce__, "_bn3d_stock_class": stock}
    if not issubclass(stock, BatchNorm3d):
        attributes["construct"] = BatchNorm3d.construct
        if stock.construct is not mint.nn.BatchNorm3d.construct:  # that has no kernel on a CPU
            attributes["_construct_stock"] = stock.construct
        if issubclass(stock, mint.nn.BatchNorm3d):
            attributes["__setattr__"] = live_settings.set_attribute
            if stock.extend_repr is mint.nn.BatchNorm3d.extend_repr:
                attributes["extend_repr"] = _extend_repr
    for name, value in attributes.items():
        type.__setattr__(cls, name, value)
    return cls


def _unpickled(stock: type, sync: bool) -> nn.Cell:
    cls = _swapped_class(stock, sync)
    return cls.__new__(cls)
