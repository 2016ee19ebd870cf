"""All cells that a network can reach, in whatever it keeps them."""

from __future__ import annotations

import gc
import sys
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import suppress
from itertools import compress
from types import (
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np
from mindspore import Tensor, nn, ops

__all__ = ["cells"]

_SEQUENCES = (list, tuple, set, frozenset, deque)
_VIEWS: tuple[type, ...] = (MappingProxyType, type({}.keys()), type({}.values()), type({}.items()))
_FOLLOWED = (nn.Cell, FunctionType, MethodType, dict, *_SEQUENCES, *_VIEWS)
_NOT_FOLLOWED = (type, ModuleType, Tensor, ops.Primitive, np.ndarray, np.generic)
# Instances of the classes of others are not looked into: a logger leads to half of the process.
# Three modules have classes that are made to hold something.
_OTHERS = {*sys.stdlib_module_names, "builtins", "mindspore", "numpy", "torch"} - {
    "__main__",
    "collections",
    "functools",
    "types",
}

Items = tuple[Collection[object], Collection[object]]  # keys and values


def cells(net: object) -> Iterator[tuple[str, nn.Cell]]:
    """Every cell that the network can reach, once, with the name of the first way to it.

    Ways are sub-cells and attributes, and from there what containers hold, the attributes and
    slots of objects, bound methods, `functools.partial`, and what functions enclose. Not
    followed are globals, attributes of classes, generators, weak references, and what tensors,
    arrays and objects of other libraries hold.

    No code of the network runs, neither its properties nor the iterators of its own containers.
    """
    classes = _Classes()
    seen: set[int] = set()
    waiting: list[tuple[str, object]] = [("", net)]
    while waiting:
        name, value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if issubclass(type(value), nn.Cell):
            yield name, value
        found: list[tuple[object, object]] = []
        for keys, values in _held(value, classes):
            if classes.any_followed(values):
                follow = map(classes.__getitem__, map(type, values))
                found += compress(zip(keys, values, strict=True), follow)
        prefix = f"{name}." if name else ""
        waiting += [(f"{prefix}{key}", child) for key, child in reversed(found)]


class _Classes(dict):
    """What one walk knows of the classes that it met: whether their instances are followed."""

    def __init__(self):
        super().__init__()
        self._slots: dict[type, dict[str, MemberDescriptorType]] = {}

    def __missing__(self, cls: type) -> bool:
        self[cls] = _is_followed(cls)
        return self[cls]

    def any_followed(self, values: Collection[object]) -> bool:
        """Whether one of the values is followed. Of long lists of numbers only the classes are
        looked at.
        """
        met = map(type, values)
        return any(map(self.__getitem__, met if len(values) < 100 else set(met)))

    def slots(self, cls: type) -> dict[str, MemberDescriptorType]:
        """The attributes of instances that are not in their `__dict__`."""
        if cls not in self._slots:
            self._slots[cls] = {
                name: attribute
                for base in cls.__mro__
                for name, attribute in vars(base).items()
                if isinstance(attribute, MemberDescriptorType) and name != "__dict__"
            }
        return self._slots[cls]


def _is_followed(cls: type) -> bool:
    if issubclass(cls, _FOLLOWED):
        return True
    return (
        not issubclass(cls, _NOT_FOLLOWED) and str(cls.__module__).partition(".")[0] not in _OTHERS
    )


def _held(value: Any, classes: _Classes) -> Iterator[Items]:
    """What a value holds."""
    cls = type(value)
    for kind in _SEQUENCES:
        if cls is kind:
            yield range(len(value)), value
            return
        if issubclass(cls, kind):
            items = list(kind.__iter__(value))
            yield range(len(items)), items
    if issubclass(cls, dict):
        yield dict.keys(value), dict.values(value)
        yield range(dict.__len__(value)), dict.keys(value)
        if cls is dict:
            return
    if issubclass(cls, FunctionType):
        yield from _enclosed(value)
        return
    if issubclass(cls, _VIEWS):
        for viewed in gc.get_referents(value):
            yield from _held(viewed, classes)
        return
    attributes = _attributes(value)
    if issubclass(cls, nn.Cell):
        # First what construct calls by name, then what cells may hide in.
        children = attributes.get("_cells") or {}
        yield children.keys(), children.values()
        attributes = {k: v for k, v in attributes.items() if k not in ("_cells", "_params")}
    yield attributes.keys(), attributes.values()
    slots: dict[str, object] = {}
    for name, slot in classes.slots(cls).items():
        with suppress(AttributeError):  # it has no value
            slots[name] = slot.__get__(value, cls)
    yield slots.keys(), slots.values()


def _attributes(value: object) -> dict[str, Any]:
    """The `__dict__` of an object, empty if it has none."""
    for base in type(value).__mro__:
        attributes = vars(base).get("__dict__")
        if isinstance(attributes, GetSetDescriptorType | MemberDescriptorType):
            return attributes.__get__(value)
    return {}


def _enclosed(function: FunctionType) -> Iterator[Items]:
    """The variables around a function, the defaults of its arguments, and its attributes."""
    enclosed = {}
    cells_ = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    for name, cell in cells_:
        with suppress(ValueError):  # not assigned yet
            enclosed[name] = cell.cell_contents
    yield enclosed.keys(), enclosed.values()
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    yield range(len(defaults)), defaults
    yield function.__dict__.keys(), function.__dict__.values()
