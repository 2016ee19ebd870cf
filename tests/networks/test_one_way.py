"""Which conditions went one way only."""

from __future__ import annotations

import sys

import pytest

from bn3d.networks.one_way import OneWay


def branch(x):
    if x > 0:
        return 1
    return 2


def short_circuit(x, y=None):
    return x > 0 and (y is None or y > 0)


def loop(x):
    found = [i for i in range(x) if i != 2]
    while x > 0:
        x -= 1
    return found


def offset(function):
    return function.__code__.co_firstlineno


@pytest.mark.parametrize(
    ("function", "inputs", "lines"),
    [
        (branch, (1, 2), [1]),
        (branch, (1, -1), []),
        (short_circuit, (1,), [1]),
        (loop, (4,), []),
        (loop, (2,), [1]),
        (loop, (0,), [2]),
    ],
)
def test_lines_of_conditions(function, inputs, lines):
    with OneWay() as ways:
        for each in inputs:
            function(each)
    found = [line for each in ways.lines().values() for line in each]
    assert found == [offset(function) + line for line in lines]


def test_places_are_named():
    with OneWay() as ways:
        branch(1)
    assert list(ways.lines()) == ["test_one_way.py: branch"]


def written(text):
    """A function that pytest has not changed."""
    namespace = {"__name__": "written"}
    exec(text, namespace)
    return namespace["function"]


def test_a_jump_that_is_far():
    body = "\n".join(f"        y = y + {i}" for i in range(400))
    function = written(f"def function(x):\n    y = 0\n    if x:\n{body}\n    return y\n")
    for inputs, lines in (((1,), [3]), ((0,), [3]), ((0, 1), [])):
        with OneWay() as ways:
            for each in inputs:
                function(each)
        assert [line for each in ways.lines().values() for line in each] == lines


def test_assertions_have_one_way():
    function = written("def function(x):\n    assert x < 100\n    return x\n")
    with OneWay() as ways:
        function(1)
    assert ways.lines() == {}


def test_what_traced_before_does_so_again():
    def trace(frame, event, argument):
        return None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with pytest.raises(ValueError, match="invalid literal"), OneWay():
            int("x")
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)
