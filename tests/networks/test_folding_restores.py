"""`bn3d.fold` leaves everything as it was, bit for bit, where it does not fold and where the
network raises or is interrupted, in whatever call of whatever cell.
"""

from __future__ import annotations

import os
import sys

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops

import bn3d
from support.folding import randomized, volume
from support.single_layers import ways_to_recompute


class Fuse:
    """Outside of the network: blows at one of its calls."""

    def set(self, blows_at=None, error=ValueError):
        self.calls, self.blows_at, self.error = 0, blows_at, error

    def __call__(self):
        self.calls += 1
        if self.calls == self.blows_at:
            raise self.error("blown")


fuse = Fuse()


class Notes:
    """No cell, but in one."""

    def __init__(self):
        self.seen = []


class Block(nn.Cell):
    def __init__(self, precision=None):
        super().__init__()
        self.conv, self.bn = nn.Conv3d(2, 2, 3), bn3d.BatchNorm3d(2)
        self.count = 0
        self.notes, self.history, self.by_name = Notes(), [], {"a": [1]}
        self.average = Parameter(Tensor(np.zeros(2, np.float32)), requires_grad=False, name="avg")
        self.buffer = Tensor(np.zeros(2, np.float32))
        self.table = np.zeros(2)
        if precision is not None:
            self.to_float(precision)

    def construct(self, x):
        fuse()
        y = self.conv(x)
        self.count += 1
        self.notes.seen.append(self.count)
        self.history.append("x")
        self.by_name["b"] = self.count
        self.table += 1
        fuse()
        z = self.bn(y)
        ops.assign_add(self.average, Tensor(np.ones(2, np.float32)))
        self.buffer[0] = 3.0
        fuse()
        return z.astype(ms.float32)


class Network(nn.Cell):
    def __init__(self):
        super().__init__()
        self.blocks = nn.SequentialCell(Block(), Block(ms.float16))
        self.extra = [nn.BatchNorm3d(2)]
        self.handle = self.blocks.register_forward_hook(lambda cell, inputs, output: None)

    def construct(self, x):
        fuse()
        y = self.blocks(x)
        fuse()
        return self.extra[0](y)


def photograph(net):
    """Everything, with the ids of objects and the bits of arrays."""
    found, seen, waiting = {}, set(), [("", net)]
    while waiting:
        name, value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        held = ()
        if isinstance(value, Tensor | np.ndarray):
            array = value.asnumpy() if isinstance(value, Tensor) else value
            found[name] = (array.dtype, array.shape, array.tobytes())
            if isinstance(value, Parameter):
                found[name] += (value.name, value.requires_grad)
        elif isinstance(value, dict):
            held = list(value.items())
        elif isinstance(value, list | tuple):
            held = list(enumerate(value))
        elif isinstance(value, nn.Cell | Notes):
            found[name, "class"] = type(value)
            held = list(vars(value).items())
        found[name, "held"] = [(key, id(each)) for key, each in held]
        waiting += [(f"{name}.{key}", each) for key, each in held]
    return found


def surroundings():
    one = Tensor(np.ones((2, 2), np.float32))
    kept = (ms.get_context("mode"), os.environ.get("MS_JIT"), sys.gettrace())
    mode = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    dtype = ops.matmul(one, one).dtype
    ms.set_context(mode=mode)
    return *kept, dtype


def calls_of_a_fold():
    fuse.set()
    report = bn3d.fold(randomized(Network()), volume())
    assert len(report.folded) == 2
    return fuse.calls


ERRORS = (ValueError, KeyboardInterrupt, MemoryError)


def test_everything_is_as_it_was_wherever_it_raises(mode):
    total = calls_of_a_fold()
    assert total == 3 * 8  # three runs
    for call in range(1, total + 1):
        net = randomized(Network())
        before, around = photograph(net), surroundings()
        error = ERRORS[call % len(ERRORS)]
        fuse.set(call, error)
        try:
            report = bn3d.fold(net, volume())
        except error:
            assert call <= total // 3 or error is KeyboardInterrupt
        else:
            assert call > total // 3
            if report.folded:  # a run with decoys that failed once only was run again
                continue
        assert photograph(net) == before, call
        assert surroundings() == around, call


class Left(Network):
    def construct(self, x):
        y = super().construct(x)
        return y, self.blocks[0].conv(x), self.blocks[1].conv(x)


def test_what_is_left_is_as_it_was(mode):
    fuse.set()
    net = randomized(Left())
    before, around = photograph(net), surroundings()
    assert not bn3d.fold(net, volume()).folded
    assert photograph(net) == before
    assert surroundings() == around


@pytest.mark.parametrize("way", ways_to_recompute())
def test_recomputation_goes_on_as_it_was(way):
    fuse.set()
    net = randomized(Left())
    for cell in (net.blocks, net.blocks[0].conv, net.blocks[1].bn):
        cell.recompute(**ways_to_recompute()[way])
    before = photograph(net)
    assert not bn3d.fold(net, volume()).folded
    assert photograph(net) == before


def test_an_input_that_is_changed_in_place_is_as_it_was():
    class Changes(nn.Cell):
        def construct(self, x):
            x[0] = 0
            return self.after(x)

    net = Changes()
    net.after = nn.SequentialCell(nn.Conv3d(2, 2, 3), bn3d.BatchNorm3d(2))
    x = volume()
    before = x.asnumpy().copy()
    assert bn3d.fold(randomized(net), x).folded
    np.testing.assert_array_equal(x.asnumpy(), before)
