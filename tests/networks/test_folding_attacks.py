"""`bn3d.fold` where the output of a layer, or its weights, are read in ways that hide it.

Each network is folded and its output compared, whatever the report says of it.
"""

from __future__ import annotations

import collections
import importlib
import sys
from dataclasses import dataclass

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops

import bn3d
from support.folding import Base, assert_folded_alike, randomized, volume

# What the network keeps.


class KeptInAnAttribute(Base):
    def construct(self, x):
        y = self.conv(x)
        self.last = y
        return self.bn(y)


class KeptInAList(Base):
    def build(self):
        self.kept = {"features": [[]]}

    def construct(self, x):
        y = self.conv(x)
        self.kept["features"][0].append(y)
        return self.bn(y)


class KeptInADeque(Base):
    def build(self):
        self.kept = collections.deque(maxlen=2)

    def construct(self, x):
        y = self.conv(x)
        self.kept.append(y)
        return self.bn(y)


class Box:
    """Holds a value."""


class KeptInAnObject(Base):
    def build(self):
        self.box = Box()

    def construct(self, x):
        y = self.conv(x)
        self.box.value = y
        return self.bn(y)


class KeptInAParameter(Base):
    def build(self):
        self.average = Parameter(Tensor(np.zeros(1, np.float32)), name="average")

    def construct(self, x):
        y = self.conv(x)
        ops.assign(self.average, y.mean().reshape(1))
        return self.bn(y)


class KeptInNumPy(Base):
    def build(self):
        self.seen = np.zeros(1)

    def construct(self, x):
        y = self.conv(x)
        self.seen[0] = y.asnumpy()[0, 0, 0, 0, 0]
        return self.bn(y)


class KeptAsANumberOfNumPy(Base):
    def construct(self, x):
        y = self.conv(x)
        self.largest = y.asnumpy().max()
        return self.bn(y)


class KeptOnTheNorm(Base):
    def construct(self, x):
        y = self.conv(x)
        self.bn.seen = y
        return self.bn(y)


class KeptByTheClass(Base):
    features = []  # noqa: RUF012

    def construct(self, x):
        y = self.conv(x)
        self.features.append(y)
        return self.bn(y)


# What runs compiled.


class ReadInAJitMethod(Base):
    @ms.jit
    def extra(self, x):
        return self.conv(x)

    def construct(self, x):
        return self.bn(self.conv(x)) + self.extra(x)


class ReadInAJitConstruct(Base):
    @ms.jit
    def construct(self, x):
        y = self.conv(x)
        return self.bn(y) + y


@ms.jit
def added(x, y):
    return x + y


class ReadInAJitFunction(Base):
    def construct(self, x):
        y = self.conv(x)
        return added(self.bn(y), y)


class ReadInBytecode(Base):
    # MindSpore captures up to Python 3.11.
    @ms.jit(capture_mode="bytecode" if sys.version_info < (3, 12) else "ast")
    def extra(self, x):
        return self.conv(x)

    def construct(self, x):
        return self.bn(self.conv(x)) + self.extra(x)


# What changes in place.


class ChangedBetween(Base):
    def construct(self, x):
        y = self.conv(x)
        y[:, 0] = 0
        return self.bn(y)


class ChangedAfter(Base):
    def construct(self, x):
        y = self.conv(x)
        z = self.bn(y)
        y[:, 0] = 0
        return z + y


class AddedTo(Base):
    def construct(self, x):
        y = self.conv(x)
        z = self.bn(y)
        z += y
        return z


# What is returned.


class ReturnedInADict(Base):
    def construct(self, x):
        y = self.conv(x)
        return {"z": self.bn(y), "more": [(y,)]}


@dataclass
class Output:
    z: Tensor
    y: Tensor


class ReturnedInAnObject(Base):
    def construct(self, x):
        y = self.conv(x)
        return Output(self.bn(y), y)


class Slotted:
    __slots__ = ("y",)


class ReturnedInSlots(Base):
    def construct(self, x):
        y = self.conv(x)
        out = Slotted()
        out.y = y
        return self.bn(y), out


# What is read in small measure.


class ReadTiny(Base):
    def construct(self, x):
        y = self.conv(x)
        return self.bn(y) + 1e-12 * y


class ReadTimesZero(Base):
    def build(self):
        self.gamma = Parameter(Tensor(np.zeros(1, np.float32)), name="gamma")

    def construct(self, x):
        y = self.conv(x)
        return self.bn(y) + self.gamma * y


class ReadByArgmax(Base):
    def construct(self, x):
        y = self.conv(x)
        return self.bn(y) * (1 + ops.argmax(y.reshape(-1)))


class ReadInOneElement(Base):
    def construct(self, x):
        y = self.conv(x)
        return self.bn(y) + ops.relu(y[0, 0, 0, 0, 0]) + ops.relu(-y[0, 0, 0, 0, 0])


class ReadInTheLastElement(Base):
    def construct(self, x):
        y = self.conv(x)
        return self.bn(y) + 1e-9 * y[-1, -1, -1, -1, -1]


class ReadBySign(Base):
    def construct(self, x):
        y = self.conv(x)
        return self.bn(y) * ops.sign(y)


class ReadWithoutNaN(Base):
    def construct(self, x):
        y = self.conv(x)
        return self.bn(y) + ops.nan_to_num(y)


class RaisesForNaN(Base):
    def construct(self, x):
        y = self.conv(x)
        if np.isnan(y.asnumpy()).any():
            raise FloatingPointError
        return self.bn(y)


class ReadAsText(Base):
    def construct(self, x):
        y = self.conv(x)
        return self.bn(y) * str(y).count(" -")


class ReadAsANumber(Base):
    def construct(self, x):
        y = self.conv(x)
        return self.bn(y) * float(y.asnumpy().max())


class ReadUnderAMaskOfItsOwn(Base):
    def construct(self, x):
        y = self.conv(x)
        return self.bn(y) + ops.where(y > 1e6, y, 0)


# What reads weights, or asks what the layers are.


class ReadsWeights(Base):
    def construct(self, x):
        penalty = sum(ops.square(p).sum() for p in self.trainable_params() if p.ndim > 1)
        return self.bn(self.conv(x)), penalty


class ReadsOneWeight(Base):
    def construct(self, x):
        return self.bn(self.conv(x)) + 1e-9 * self.parameters_dict()["conv.weight"][0, 0, 0, 0, 0]


class CountsParameters(Base):
    def construct(self, x):
        return self.bn(self.conv(x)) + 1e-4 * len(list(self.get_parameters()))


class ReadsGamma(Base):
    def construct(self, x):
        return self.bn(self.conv(x)) + 1e-6 * self.bn.bn2d.gamma.sum()


class AsksForTheKind(Base):
    def construct(self, x):
        y = self.bn(self.conv(x))
        return y + 1e-4 if isinstance(self.bn, nn.BatchNorm3d) else y


class AsksForTheBias(Base):
    def construct(self, x):
        y = self.bn(self.conv(x))
        return y + 1e-4 if self.conv.has_bias else y


# Names that are bound elsewhere.


class BoundNonlocally(Base):
    def construct(self, x):
        y = None

        def run():
            nonlocal y
            y = self.conv(x)
            return y

        return self.bn(run()) + y


class ReadInFinally(Base):
    def construct(self, x):
        try:
            y = self.conv(x)
            z = self.bn(y)
        finally:
            w = y
        return z + w


class BoundGlobally(Base):
    def construct(self, x):
        global kept  # noqa: PLW0603
        kept = self.conv(x)
        return self.bn(kept) + kept


class InAClosure(Base):
    def build(self):
        conv, bn = self.conv, self.bn

        def run(x):
            y = conv(x)
            return bn(y) * y

        self.run = run

    def construct(self, x):
        return self.run(x)


class UnderRecomputation(Base):
    def build(self):
        self.recompute()

    def construct(self, x):
        y = self.conv(x)
        return self.bn(y) + y


class UnderSetGrad(UnderRecomputation):
    def build(self):
        self.set_grad(True)


collected = []


class CollectedByAHook(Base):
    """The hook is on a cell between, which gives just what the convolution gives."""

    def build(self):
        self.first = nn.SequentialCell(self.conv)
        self.first.register_forward_hook(lambda cell, args, output: collected.append(output))

    def construct(self, x):
        return self.bn(self.first(x))


READ = [
    value
    for value in list(globals().values())
    if isinstance(value, type) and issubclass(value, Base) and value is not Base
]


@pytest.mark.parametrize("kind", READ)
def test_what_is_read_elsewhere_is_left(kind):
    net = randomized(kind())
    assert not assert_folded_alike(net, volume(), tolerance=0).folded


class JitConstruct(Base):
    @ms.jit
    def construct(self, x):
        return self.bn(self.conv(x))


class ByKeyword(Base):
    def construct(self, x):
        return self.bn(x=self.conv(x=x))


class TwoInputs(Base):
    def construct(self, x):
        a, b = self.conv(x), self.conv(-x)
        return self.bn(b) - self.bn(a)


class SameWeightsTwice(Base):
    def build(self):
        self.other, self.norm = nn.Conv3d(2, 2, 3), bn3d.BatchNorm3d(2)
        self.other.weight.set_data(Tensor(self.conv.weight.asnumpy()))

    def construct(self, x):
        a, b = self.conv(x), self.other(x)
        return self.bn(a) + self.norm(b)


class OnlyItsShapeIsRead(Base):
    def construct(self, x):
        y = self.conv(x)
        return self.bn(y) * y.shape[0]


class ReadButNotUsed(Base):
    def construct(self, x):
        y = self.conv(x)
        _ = y * 2
        return self.bn(y)


class AnInnerFunction(Base):
    def construct(self, x):
        def run(layers):
            return layers[1](layers[0](x))

        return run([self.conv, self.bn])


class WithABprop(Base):
    def build(self):
        class Own(nn.Cell):
            def construct(self, x):
                return x * 2

            def bprop(self, x, out, dout):
                return (dout * 2,)

        self.own = Own()

    def construct(self, x):
        return self.own(self.bn(self.conv(x)))


UNREAD = {
    JitConstruct: 1,
    ByKeyword: 1,
    TwoInputs: 1,
    SameWeightsTwice: 2,
    OnlyItsShapeIsRead: 1,
    ReadButNotUsed: 1,
    AnInnerFunction: 1,
    WithABprop: 1,
}


@pytest.mark.parametrize(("kind", "folded"), UNREAD.items())
def test_what_nobody_reads_is_folded(kind, folded):
    assert len(assert_folded_alike(randomized(kind()), volume()).folded) == folded


EDITED = """
from mindspore import nn

class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv3d(2, 2, 3), nn.BatchNorm3d(2)

    def construct(self, x):
        y = self.conv(x)
        return self.bn(y) + y
"""


def test_the_program_that_runs_counts_and_not_its_file(tmp_path, monkeypatch):
    file = tmp_path / "edited_after_import.py"
    file.write_text(EDITED)
    monkeypatch.syspath_prepend(tmp_path)
    net = randomized(importlib.import_module("edited_after_import").Net())
    file.write_text(EDITED.replace("self.bn(y) + y", "self.bn(y)"))
    assert not assert_folded_alike(net, volume(), tolerance=0).folded
    del sys.modules["edited_after_import"]


def test_a_random_network_is_left():
    class Random(Base):
        def construct(self, x):
            return self.bn(self.conv(x)) + ops.standard_normal((1,))

    report = bn3d.fold(randomized(Random()), volume())
    assert "does not give the same twice" in report.left["bn"]


def test_an_output_that_is_not_finite_is_left():
    class Logarithm(Base):
        def construct(self, x):
            return ops.log(ops.relu(self.bn(self.conv(x))))

    report = bn3d.fold(randomized(Logarithm()), volume())
    assert "not finite" in report.left["bn"]


class TwoWays(Base):
    def construct(self, x, flag=False):
        y = self.conv(x)
        z = self.bn(y)
        if flag:
            z = z + y
        return z


def test_a_way_not_taken_is_reported():
    report = bn3d.fold(randomized(TwoWays()), volume())
    assert report.folded == {"bn": "conv"}
    [(place, [line])] = report.one_way.items()
    assert place.startswith("test_folding_attacks.py: ")
    assert place.endswith("construct")
    assert f"a condition went one way only: {place}, line {line}" in str(report)


def test_run_takes_all_ways():
    net = randomized(TwoWays())
    report = bn3d.fold(net, run=lambda: (net(volume()), net(volume(), flag=True)))
    assert not report.folded
    assert "a decoy changes what the network gives" in report.left["bn"]
    assert not report.one_way


def test_run_may_call_other_methods():
    class Encodes(Base):
        def encode(self, x, scale):
            return scale * self.bn(self.conv(x))

    net = randomized(Encodes())
    wanted = net.encode(volume(), scale=2).asnumpy()
    assert bn3d.fold(net, run=lambda: net.encode(volume(), scale=2)).folded == {"bn": "conv"}
    np.testing.assert_allclose(net.encode(volume(), scale=2).asnumpy(), wanted, atol=1e-5)
