"""`bn3d.networks.reachable`: where a network may keep its layers, and what the walk must not do."""

from __future__ import annotations

import dataclasses
import functools
import logging
import sys
import types
from collections import ChainMap, OrderedDict, UserDict, UserList, deque, namedtuple

import mindspore as ms
import pytest
from mindspore import nn

import bn3d
from bn3d.networks.reachable import cells

Pair = namedtuple("Pair", "first second")


@dataclasses.dataclass
class Box:
    held: object


class Helper:
    def __init__(self, held):
        self.held = held

    def method(self):
        return self.held


class Slots:
    __slots__ = ("empty", "held")

    def __init__(self, held):
        self.held = held


class OfAList(list):
    """Holds in itself and in an attribute."""


def of_a_list(layer):
    made = OfAList()
    made.held = layer
    return made


def enclosing(layer):
    def run(x):
        return layer(x)

    return run


PLACES = {
    "list": lambda layer: [layer],
    "tuple": lambda layer: (0, layer),
    "named tuple": lambda layer: Pair(0, layer),
    "dict": lambda layer: {"a": layer},
    "key of a dict": lambda layer: {layer: 1},
    "ordered dict": lambda layer: OrderedDict(a=layer),
    "set": lambda layer: {layer},
    "frozenset": lambda layer: frozenset([layer]),
    "deque": lambda layer: deque([layer]),
    "mapping proxy": lambda layer: types.MappingProxyType({"a": layer}),
    "view of a dict": lambda layer: {"a": layer}.values(),
    "UserDict": lambda layer: UserDict(a=layer),
    "UserList": lambda layer: UserList([layer]),
    "ChainMap": lambda layer: ChainMap({}, {"a": layer}),
    "dataclass": Box,
    "helper": Helper,
    "slots": Slots,
    "attribute of a list": of_a_list,
    "namespace": lambda layer: types.SimpleNamespace(a=layer),
    "partial": lambda layer: functools.partial(print, layer),
    "keyword of a partial": lambda layer: functools.partial(print, end=layer),
    "bound method": lambda layer: Helper(layer).method,
    "closure": enclosing,
    "default": lambda layer: lambda x, layer=layer: layer(x),
    "cached function": lambda layer: functools.lru_cache(enclosing(layer)),
    "gradient": ms.grad,
    "jit": lambda layer: ms.jit(enclosing(layer)),
    "nested": lambda layer: Helper([{"a": Slots(deque([(layer,)]))}]),
}


def network(held):
    net = nn.Cell()
    net.__dict__["place"] = held
    return net


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_layers_are_found_and_named(place):
    layer = nn.BatchNorm3d(3)
    net = network(place(layer))
    (name,) = bn3d.swap(net).changed
    assert name.startswith("place.")
    assert isinstance(layer, bn3d.BatchNorm3d)
    assert bn3d.freeze(net) == [name]
    assert bn3d.unfreeze(net) == [name]
    assert bn3d.restore(net).changed == [name]
    assert type(layer) is nn.BatchNorm3d


class Touchy:
    """Fails when any code of its own runs."""

    def __init__(self, held):
        self.held = held

    def _fail(self, *_):
        raise AssertionError("code of the network ran")

    held_by_property = property(_fail)
    __getattr__ = __iter__ = __len__ = __bool__ = __eq__ = _fail
    __hash__ = None


class TouchyDict(dict):
    values = keys = items = __iter__ = __len__ = Touchy._fail


class TouchyList(list):
    __iter__ = __len__ = __getitem__ = Touchy._fail


class TouchySet(set):
    __iter__ = __len__ = Touchy._fail


@pytest.mark.parametrize(
    "place",
    [
        Touchy,
        lambda layer: TouchyDict(a=layer),
        lambda layer: TouchyList([layer]),
        lambda layer: TouchySet([layer]),
    ],
)
def test_no_code_of_the_network_runs(place):
    layer = nn.BatchNorm3d(3)
    assert any(cell is layer for _, cell in cells(network(place(layer))))


def test_names_and_order_are_those_of_the_sub_cells():
    net = nn.SequentialCell(nn.SequentialCell(nn.BatchNorm3d(3)), nn.ReLU())
    names = [name for name, _ in cells(net)]
    assert names == ["", "0", "0.0", "0.0.bn2d", "1"]


def test_cycles_and_depth():
    deep = innermost = []
    for _ in range(100_000):
        innermost.append([])
        innermost = innermost[0]
    layer = nn.BatchNorm3d(3)
    innermost += [deep, layer]
    assert any(cell is layer for _, cell in cells(network(deep)))
    while deep:  # freed level by level: Python's own destructor of lists would recurse
        deep = deep.pop(0) if isinstance(deep[0], list) and deep is not innermost else []


def test_values_of_a_long_list_are_not_looked_at_one_by_one():
    """Told by the bytecode that runs, not by a clock."""
    net = network(list(range(300_000)))
    net.__dict__["more"] = dict.fromkeys(range(300_000), 0.5)
    events = 0

    def count(frame, event, argument):
        nonlocal events
        events += 1
        return count

    sys.settrace(count)
    try:
        found = list(cells(net))
    finally:
        sys.settrace(None)
    assert len(found) == 1
    assert events < 10_000


def test_what_belongs_to_others_is_not_walked():
    """A logger leads to all loggers, and a module to all of the process."""
    logger = logging.getLogger("bn3d.test")
    logger.held = nn.BatchNorm3d(3)
    net = network([logger, types, nn.BatchNorm3d, ms.Tensor([1.0])])
    assert [name for name, _ in cells(net)] == [""]
