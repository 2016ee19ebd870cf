"""Layers that can be reached in ways that no source of `construct` shows."""

from __future__ import annotations

import functools
import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from types import CellType, FunctionType, MethodType, SimpleNamespace

from mindspore import nn

from bn3d.cells import cells

__all__ = ["bound_names", "in_containers", "places", "runs_its_class", "unseen"]

_OWN_BOOKKEEPING = ("_cells", "_params", "_recompute_cell")
_CONTAINERS = (list, tuple, set, frozenset, dict)
_FOREIGN = ("mindspore", "numpy", "bn3d", *(sys.stdlib_module_names - {"__main__"}))


def places(net: nn.Cell) -> Counter:
    """How many places of the network hold each cell, by its id."""
    found = Counter()
    for _, cell in cells(net):
        found.update(id(child) for child in cell._cells.values())
        for name, value in vars(cell).items():
            # `cell_list` repeats the `_cells` of a SequentialCell.
            if name not in (*_OWN_BOOKKEEPING, "cell_list"):
                found.update(id(each) for each in in_containers(value) if _is_cell(each))
    return found


def unseen(net: nn.Cell) -> dict[int, str]:
    """By id the cells that functions and objects other than cells hold, and what is in them."""
    found = {}
    for held in _held_by_objects(net):
        if _is_cell(held):
            reason = f"a function or an object in the network holds this {type(held).__name__}"
            found |= {id(inner): reason for _, inner in cells(held)}
    return found


def bound_names(net: nn.Cell) -> set[str]:
    """Names of methods that the network keeps as attributes, to be run under other names."""
    return {
        each.__func__.__name__
        for each in _held_by_objects(net)
        if isinstance(each, MethodType) and isinstance(each.__func__, FunctionType)
    }


def runs_its_class(cell: nn.Cell) -> bool:
    """Whether a call of the cell runs the `construct` of its class."""
    own = vars(cell).get("construct")
    if own is not None:  # mixed precision "auto" sets one that runs that of the class
        function = getattr(own, "__func__", None)
        if not _is_of_mindspore(function) or inspect.unwrap(function) is not inspect.unwrap(
            type(cell).construct
        ):
            return False
    return "__call__" not in vars(cell) and type(cell).__call__ is nn.Cell.__call__


def _is_cell(value: object) -> bool:
    return isinstance(value, nn.Cell)


def _is_of_mindspore(function: Callable | None) -> bool:
    name = getattr(function, "__globals__", {}).get("__name__")
    return isinstance(name, str) and name.startswith("mindspore.")


def in_containers(value: object) -> Iterator[object]:
    """What is in a list, tuple, set or dictionary, however deep; nothing for other values."""
    todo, seen = [value], set()
    while todo:
        each = todo.pop()
        if isinstance(each, _CONTAINERS):
            if id(each) not in seen:
                seen.add(id(each))
                todo += each.values() if isinstance(each, dict) else each
        elif each is not value:
            yield each


def _held_by_objects(net: nn.Cell) -> Iterator[object]:
    """What can be reached from the attributes of cells through functions and objects; of cells
    the first ones.
    """
    seen: set[int] = set()
    todo = []
    for _, cell in cells(net):
        if type(cell).__module__ == "mindspore.common.recompute":
            continue
        todo += _class_attributes(type(cell))
        for name, value in vars(cell).items():
            if name not in _OWN_BOOKKEEPING and not (name == "construct" and runs_its_class(cell)):
                held = [value, *in_containers(value)]
                # Cells among them are places of the network, like those in `_cells`.
                todo += [
                    each
                    for each in held
                    if not isinstance(each, _CONTAINERS) and not _is_cell(each)
                ]
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        if not _is_cell(value):
            todo += _parts(value)


def _class_attributes(kind: type) -> Iterator[object]:
    for base in kind.__mro__:
        if not _is_foreign(base):
            for name, value in vars(base).items():
                if not isinstance(value, FunctionType) and not name.startswith("__"):
                    yield value


def _parts(value: object) -> Iterable[object]:
    """What a function or an object holds."""
    parts: Iterable[object] = ()
    match value:
        case list() | tuple() | set() | frozenset():
            parts = value
        case dict():
            parts = value.values()
        case functools.partial():
            parts = (value.func, *value.args, *value.keywords.values())
        case MethodType(__self__=nn.Cell() as cell) if not _is_foreign(type(cell)):
            parts = _parts(value.__func__)  # its source is read as that of its class
        case MethodType():
            parts = (value.__self__, value.__func__)
        case FunctionType() if not _is_of_mindspore(value):
            closure = [each.cell_contents for each in value.__closure__ or () if _is_set(each)]
            parts = (*closure, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
        case _ if not _is_foreign(type(value)) or isinstance(value, SimpleNamespace):
            parts = getattr(value, "__dict__", {}).values()
    return parts


def _is_set(cell: CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _is_foreign(kind: type) -> bool:
    """Whether a class is of a library that holds no layers of a network."""
    return str(kind.__module__).partition(".")[0] in _FOREIGN
