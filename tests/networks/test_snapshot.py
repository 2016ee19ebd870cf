"""What a network held is told from what it holds, and put back; long containers cost little."""

from __future__ import annotations

import gc
import sys
from collections import deque

import numpy as np
import pytest
from mindspore import Tensor, nn

from bn3d.networks.snapshot import Snapshot
from bn3d.networks.values import arrays, fingerprint


def steps(function):
    """How many lines of Python a call runs, each round of a loop anew."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    gc.collect()
    gc.disable()  # what it calls would count as well
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
        gc.enable()
    return count


CONTAINERS = {
    "list": lambda n: list(range(n)),
    "list of floats": lambda n: [i / 3 for i in range(n)],
    "tuple": lambda n: tuple(map(str, range(n))),
    "set": lambda n: set(range(n)),
    "frozenset": lambda n: frozenset(range(n)),
    "deque": lambda n: deque(range(n)),
    "dict": lambda n: {str(i): i for i in range(n)},
}


@pytest.mark.parametrize("build", CONTAINERS.values(), ids=CONTAINERS)
def test_a_long_container_of_numbers_takes_no_step_for_each(build):
    def through_all(length):
        net = nn.Cell()
        net.table, net.replaced, other = build(length), build(length), build(length + 1)

        def run():
            before = Snapshot(net)
            net.replaced = other
            assert list(before.changes()) == ["replaced"]
            before.restore()
            assert not before.changes()
            fingerprint(net.table)
            list(arrays(net.table))

        return run

    few, many = through_all(10), through_all(3000)
    steps(few)  # what is done only once
    assert steps(many) == steps(few)


def test_what_grows_in_place_takes_no_step_for_each():
    def grows(length):
        net = nn.Cell()
        net.table = list(range(length))

        def run():
            before = Snapshot(net)
            net.table.append(0)
            assert list(before.changes()) == ["table"]
            before.restore()
            assert len(net.table) == length

        return run

    few, many = grows(10), grows(3000)
    steps(few)
    assert steps(many) == steps(few)


def held():
    net = nn.Cell()
    net.values, net.last, net.by_name = [1, Tensor([1.0])], deque([1, 2], maxlen=2), {"a": 1}
    net.names, net.array = {"x"}, np.zeros(2)
    return net


CHANGES = {
    "values": lambda net: net.values.append(2),
    "last": lambda net: net.last.append(3),
    "by_name.b": lambda net: net.by_name.update(b=2),
    "names": lambda net: net.names.add("y"),
    "array": lambda net: net.array.__setitem__(0, 1),
    "new": lambda net: setattr(net, "new", 1),
    "values.1": lambda net: net.values[1].__setitem__(0, 5.0),
}


@pytest.mark.parametrize(("place", "change"), CHANGES.items())
def test_each_change_is_named_and_put_back(place, change):
    net = held()
    wanted = fingerprint(vars(net))
    before = Snapshot(net)
    change(net)
    assert list(before.changes()) == [place]
    before.restore()
    assert not before.changes()
    assert fingerprint(vars(net)) == wanted


def test_numbers_of_numpy_are_told_apart():
    net = nn.Cell()
    net.value = np.float32(1)
    before = Snapshot(net)
    net.value = np.float32(2)
    [first] = before.changes().values()
    net.value = np.float32(3)
    [second] = before.changes().values()
    assert first != second
