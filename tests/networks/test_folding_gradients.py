"""`bn3d.fold` of networks that take gradients in their own `construct`."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

import bn3d
from bn3d.mindspore_private.execution import is_recording
from support.folding import Base, assert_folded_alike, randomized, volume
from support.single_layers import ways_to_recompute


class Energy(Base):
    """Its output is a gradient, as a force is that of an energy."""

    def energy(self, x):
        return (self.bn(self.conv(x)) ** 2).sum()

    def construct(self, x):
        return ms.grad(self.energy)(x)


class OfAnInnerFunction(Base):
    def construct(self, x):
        def energy(x):
            return (self.relu(self.bn(self.conv(x))) ** 2).sum()

        return ms.value_and_grad(energy)(x)


class OfACell(Base):
    def build(self):
        self.part = nn.SequentialCell(self.conv, self.bn, nn.ReLU())
        self.gradient = ops.GradOperation()

    def construct(self, x):
        return self.gradient(self.part)(x)


class ByVjp(Base):
    def construct(self, x):
        y, vjp = ms.vjp(lambda x: self.bn(self.conv(x)), x)
        return y, vjp(ops.ones_like(y))


class OfWhatComesAfter(Base):
    def construct(self, x):
        return ms.grad(lambda y: (y**3).sum())(self.bn(self.conv(x)))


class InSteps(Energy):
    def construct(self, x):
        for _ in range(3):
            x = x - 0.01 * ms.grad(self.energy)(x)
        return x


class FromFeatures(Energy):
    def build(self):
        self.conv = nn.Dense(32, 16)

    def energy(self, x):
        return (self.bn(self.conv(x.reshape(-1, 32)).reshape(-1, 2, 2, 2, 2)) ** 2).sum()


class OfSecondOrder(FromFeatures):
    def construct(self, x):
        return ms.grad(lambda x: (ms.grad(self.energy)(x) ** 2).sum())(x)


class Recomputed(Energy):
    def build(self):
        self.conv.recompute()


class RecomputedNorm(Energy):
    def build(self):
        self.bn.recompute()


class RecomputedOtherwise(OfACell):
    def build(self):
        super().build()
        self.part.recompute(**ways_to_recompute()[self.way])


FOLDED = [
    *(Energy, OfAnInnerFunction, OfACell, ByVjp, OfWhatComesAfter, InSteps),
    *(FromFeatures, OfSecondOrder, Recomputed, RecomputedNorm),
    *(type(way, (RecomputedOtherwise,), {"way": way}) for way in ways_to_recompute()),
]


@pytest.mark.parametrize("kind", FOLDED)
@pytest.mark.parametrize("stock", [False, True], ids=["ours", "stock"])
def test_a_gradient_by_the_input_is_folded(kind, stock, monkeypatch):
    if stock:
        monkeypatch.setattr(bn3d, "BatchNorm3d", nn.BatchNorm3d)
    report = assert_folded_alike(randomized(kind()), volume())
    assert report.folded in ({"bn": "conv"}, {"part.1": "part.0"})
    assert report.error < 1e-5


class OfSomeLayers(Base):
    """The first of its two norms cannot be folded."""

    def build(self):
        self.conv2, self.bn2 = nn.Conv3dTranspose(2, 2, 3), bn3d.BatchNorm3d(2)

    def construct(self, x):
        def energy(x):
            y = self.conv(x)
            return (self.bn2(self.conv2(self.bn(y))) ** 2).sum() + (y**2).sum()

        return ms.grad(energy)(x)


def test_layers_within_a_gradient_are_told_apart():
    report = assert_folded_alike(randomized(OfSomeLayers()), volume())
    assert report.folded == {"bn2": "conv2"}


class ReadInIt(Energy):
    def energy(self, x):
        y = self.conv(x)
        return (self.bn(y) ** 2).sum() + y.sum()


class ReadBesideIt(Base):
    def construct(self, x):
        def energy(x):
            y = self.conv(x)
            return (self.bn(y) ** 2).sum(), y

        return ms.grad(energy, has_aux=True)(x)


class ByTheMiddle(Base):
    def construct(self, x):
        y = self.conv(x)
        return ms.grad(lambda y: (self.bn(y) ** 2).sum())(y)


class StoppedBetween(Energy):
    def energy(self, x):
        return (self.bn(ops.stop_gradient(self.conv(x))) * x).sum()


class Reverses(nn.Cell):
    def construct(self, x):
        return x

    def bprop(self, x, out, dout):
        return (-dout,)


class ReversedBetween(Energy):
    def build(self):
        self.between = Reverses()

    def energy(self, x):
        return (self.bn(self.between(self.conv(x))) ** 2).sum()


class ByTheWeight(Energy):
    def construct(self, x):
        return ms.grad(self.energy, None, (self.conv.weight,))(x)


class ByTheWeightThatItKeeps(Energy):
    def build(self):
        self.kept = [self.conv.weight]

    def construct(self, x):
        return ms.grad(self.energy, 0, self.kept)(x)


class ByGamma(Energy):
    def build(self):
        self.kept = [self.bn.bn2d.gamma]

    def construct(self, x):
        return ms.grad(self.energy, 0, self.kept)(x)


class ByAll(Energy):
    def construct(self, x):
        return ms.grad(self.energy, 0, self.trainable_params())(x)


class WithABackwardHook(Energy):
    def build(self):
        self.conv.register_backward_hook(lambda cell, by_input, by_output: None)


class ConvWithABprop(nn.Conv3d):
    def bprop(self, x, out, dout):
        return (dout * 2,)


class WithABprop(Energy):
    def build(self):
        self.conv = ConvWithABprop(2, 2, 3)


READ = [ReadInIt, ReadBesideIt, ByTheMiddle, StoppedBetween, ReversedBetween, ByTheWeight]
READ += [ByTheWeightThatItKeeps, ByGamma, ByAll, WithABackwardHook, WithABprop]


@pytest.mark.parametrize("kind", READ)
def test_what_a_gradient_reads_is_left(kind):
    report = assert_folded_alike(randomized(kind()), volume(), tolerance=0)
    # not because the whole came out wrong, which would take other layers with it
    assert "all folded" not in report.left["bn"]
    assert not is_recording()


def test_a_backward_hook_does_not_matter_without_a_gradient():
    class Hooked(WithABackwardHook):
        def construct(self, x):
            return self.bn(self.conv(x))

    assert assert_folded_alike(randomized(Hooked()), volume()).folded


def test_a_run_that_raises_within_a_gradient_leaves_none_open():
    class Raises(Energy):
        def energy(self, x):
            raise ValueError("in a gradient")

    with pytest.raises(ValueError, match="in a gradient"):
        bn3d.fold(randomized(Raises()), volume())
    assert not is_recording()
    x = volume()
    np.testing.assert_allclose(ms.grad(lambda x: (x**2).sum())(x).asnumpy(), 2 * x.asnumpy())
