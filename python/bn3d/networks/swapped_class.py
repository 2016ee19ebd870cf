"""The class that `swap` gives to a cell: a subclass of the one that it had, made as it runs."""

from __future__ import annotations

import functools
from abc import ABCMeta
from typing import Any

from mindspore import mint, nn

from bn3d.layers.batch_norm import BatchNorm3d
from bn3d.layers.sync_batch_norm import SyncBatchNorm3d
from bn3d.networks import live_settings

__all__ = ["Swapped", "stock_class", "swapped_class"]


class Swapped(BatchNorm3d):
    """Marks the classes that `swap` gives to cells, for `restore`."""

    _bn3d_stock_class: type[nn.Cell]

    def __reduce__(self) -> tuple[Any, ...]:
        # The class exists in this process only: it is made again from the stock one.
        sync = isinstance(self, SyncBatchNorm3d)
        return _unpickled, (self._bn3d_stock_class, sync), self.__getstate__()


def stock_class(cell: nn.Cell) -> type:
    return cell._bn3d_stock_class if isinstance(cell, Swapped) else type(cell)


class _Unannounced:
    """Keeps the `__init_subclass__` of a network's class from hearing of the class that `swap`
    makes: a registry would hand it out, or a required argument be missing.
    """

    __slots__ = ()

    def __init_subclass__(cls, **_):
        pass


def _extend_repr(cell: Swapped) -> str:
    return f"{cell._bn3d_stock_class.extend_repr(cell)}, {BatchNorm3d.extend_repr(cell)}"


@functools.cache
def swapped_class(stock: type[nn.Cell], sync: bool) -> type[Swapped]:
    """The subclass of a stock class that computes with bn3d. It keeps its name: MindSpore's
    rewriting tools and many networks look cells up by it. It is of this module: in those of
    `mindspore`, `mindspore.jit(capture_mode="bytecode")` loses what a cell does to its parameters.
    """
    bases = (Swapped, SyncBatchNorm3d) if sync else (Swapped,)
    if stock not in (nn.BatchNorm3d, BatchNorm3d):
        bases = (_Unannounced, stock, *bases)
    namespace = {"__module__": __name__, "__qualname__": stock.__qualname__}
    # A metaclass of the network's may keep a registry, too. That of abstract classes has to know.
    make = ABCMeta if issubclass(type(stock), ABCMeta) else type
    cls: Any = make.__new__(type(stock), stock.__name__, bases, namespace)
    # Not in the namespace, from where a `__set_name__` would be called.
    attributes = {"__reduce__": Swapped.__reduce__, "_bn3d_stock_class": stock}
    if not issubclass(stock, BatchNorm3d):
        attributes["construct"] = BatchNorm3d.construct
        if stock.construct is not mint.nn.BatchNorm3d.construct:  # that has no kernel on a CPU
            attributes["_bn3d_construct_stock"] = stock.construct
        if issubclass(stock, mint.nn.BatchNorm3d):
            attributes["__setattr__"] = live_settings.set_attribute
            attributes["insert_param_to_cell"] = live_settings.insert_parameter
            if stock.extend_repr is mint.nn.BatchNorm3d.extend_repr:
                attributes["extend_repr"] = _extend_repr
    for name, value in attributes.items():
        type.__setattr__(cls, name, value)
    return cls


def _unpickled(stock: type, sync: bool) -> nn.Cell:
    cls = swapped_class(stock, sync)
    return cls.__new__(cls)
