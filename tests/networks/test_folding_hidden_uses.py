"""`bn3d.fold` where a layer has more uses than its place in `construct` shows.

A wrong fold is silent, so each network here is folded and its output compared, whatever the
report says of it.
"""

from __future__ import annotations

import functools
import types

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

import bn3d
from support.folding import Base, assert_folded_alike, randomized, volume
from support.single_layers import ways_to_recompute


class MixinMethod:
    """No Cell, but its methods run layers."""

    def extra(self, x):
        return self.conv(x)


class InAMixin(MixinMethod, Base):
    def construct(self, x):
        return self.bn(self.conv(x)) + self.extra(x)


class OnOneLine(Base):
    def construct(self, x):
        y = self.conv(x); z = self.bn(y); return z + y  # fmt: skip # noqa: E702


class AddedInPlace(Base):
    def construct(self, x):
        y = self.conv(x)
        z = self.bn(y)
        y += z
        return y


class ReadInAnInnerFunction(Base):
    def construct(self, x):
        y = x

        def skip():
            return y

        y = self.conv(x)
        z = self.bn(y)
        return z + skip()


class OtherVariableOfThatName(Base):
    def construct(self, x):
        y = self.conv(x)  # noqa: F841
        z = [self.bn(y) for y in (x, 2 * x)]
        return z[0] + z[1]


class GetattrWithAName(Base):
    def construct(self, x):
        return self.bn(self.conv(x)) + getattr(self, "conv")(x)  # noqa: B009


class GetattrWithAComputedName(Base):
    def construct(self, x):
        return self.bn(self.conv(x)) + self.run("co" + "nv", x)

    def run(self, name, x):
        return getattr(self, name)(x)


class ByDict(Base):
    def construct(self, x):
        return self.bn(self.conv(x)) + self.__dict__["_cells"]["conv"](x)


class ByCells(Base):
    def construct(self, x):
        return self.bn(self.conv(x)) + self._cells["conv"](x)


class ByIteration(Base):
    def construct(self, x):
        y = self.bn(self.conv(x))
        for layer in self.cells():
            return y + layer(x)
        return y


def runs_its_conv(net, x):
    return net.conv(x)


class SelfPassedOn(Base):
    def construct(self, x):
        return self.bn(self.conv(x)) + runs_its_conv(self, x)


class SelfUnderAnotherName(Base):
    def construct(self, x):
        net = self
        return self.bn(self.conv(x)) + net.conv(x)


class FirstArgumentOfAnotherName(Base):
    def construct(self, x):
        return self.bn(self.conv(x)) + self.extra(x)

    def extra(this, x):  # noqa: N805
        return runs_its_conv(this, x)


class AStaticMethod(Base):
    def construct(self, x):
        return self.bn(self.conv(x)) + self.extra(self, x)

    @staticmethod
    def extra(net, x):
        return net.conv(x)


class AProperty(Base):
    def construct(self, x):
        return self.bn(self.conv(x)) + self.first(x)

    @property
    def first(self):
        return self.conv


class ALambdaInTheClass(Base):
    extra = lambda self, x: self.conv(x)  # noqa: E731

    def construct(self, x):
        return self.bn(self.conv(x)) + self.extra(x)


class ALambdaOfTheNetwork(Base):
    def build(self):
        net = self
        self.extra = lambda x: runs_its_conv(net, x)

    def construct(self, x):
        return self.bn(self.conv(x)) + self.extra(x)


class AFunctionOfTheLayer(Base):
    def build(self):
        layer = self.conv

        def extra(x):
            return layer(x)

        self.extra = extra

    def construct(self, x):
        return self.bn(self.conv(x)) + self.extra(x)


class APartial(Base):
    def build(self):
        self.extra = functools.partial(runs_its_conv, self)

    def construct(self, x):
        return self.bn(self.conv(x)) + self.extra(x)


class BoundConstruct(Base):
    def build(self):
        self.extra = self.conv.construct

    def construct(self, x):
        return self.bn(self.conv(x)) + self.extra(x)


class Helper:
    """No cell, but holds one."""

    def __init__(self, net):
        self.net = net

    def run(self, x):
        return self.net.conv(x)


class AHelperObject(Base):
    def build(self):
        self.helper = Helper(self)

    def construct(self, x):
        return self.bn(self.conv(x)) + self.helper.run(x)


class ByADecorator(Base):
    def skipping(method):  # noqa: N805
        @functools.wraps(method)
        def wrapper(self, x):
            return method(self, x) + self.conv(x)

        return wrapper

    @skipping
    def construct(self, x):
        return self.bn(self.conv(x))


def adding_the_conv(method):
    """A decorator that does not say what it wraps."""

    def construct(self, x):
        return method(self, x) + self.conv(x)

    return construct


class ByASilentDecorator(Base):
    @adding_the_conv
    def construct(self, x):
        return self.bn(self.conv(x))


class ByADecoratedHelper(Base):
    def construct(self, x):
        return self.bn(self.conv(x)) + self.extra(x)

    def half_of(method):  # noqa: N805
        def wrapper(self, x):
            return method(self, x) / 2

        return wrapper

    @half_of
    def extra(self, x):
        return self.conv(x)


class Lazily:
    """A descriptor, as many libraries bring one."""

    def __init__(self, function):
        self.function = function

    def __get__(self, instance, owner):
        return self if instance is None else self.function(instance)


class ADescriptor(Base):
    @Lazily
    def first(self):
        return self.conv

    def construct(self, x):
        return self.bn(self.conv(x)) + self.first(x)


class LayersByString(Base):
    def build(self):
        self.layers = nn.SequentialCell(self.conv, self.bn)
        del self._cells["conv"], self._cells["bn"]

    def construct(self, x):
        y = self.layers(x)
        for layer in getattr(self, "layers"):  # noqa: B009
            return y + layer(x)
        return y


class WeightInAList(Base):
    def build(self):
        self.weights = [self.conv.weight]

    def construct(self, x):
        return self.bn(self.conv(x)) * self.weights[0].sum()


class OfTheClass(Base):
    shared = nn.Conv3d(2, 2, 3)

    def build(self):
        self.conv = OfTheClass.shared

    def construct(self, x):
        return self.bn(self.conv(x)) + self.shared(x)


class Runs(Base):
    def construct(self, x):
        return self.conv(x)


class ThroughSuper(Runs):
    def construct(self, x):
        return self.bn(self.conv(x)) + super().construct(x)


class ThroughTheBaseClass(Runs):
    def construct(self, x):
        return self.bn(self.conv(x)) + Runs.construct(self, x)


class GivenAnotherConstruct(Base):
    def build(self):
        def construct(self, x):
            return self.bn(self.conv(x)) + self.conv(x)

        self.construct = types.MethodType(construct, self)


class Shifted(bn3d.BatchNorm3d):
    def construct(self, x):
        return super().construct(x) + 1


class ShiftedStock(nn.BatchNorm3d):
    def construct(self, x):
        return super().construct(x) + 1


class NormWithAConstruct(Base):
    def build(self):
        self.bn = Shifted(2)


class StockNormWithAConstruct(Base):
    def build(self):
        self.bn = ShiftedStock(2)


class NormGivenAConstruct(Base):
    def build(self):
        plain = self.bn.construct
        self.bn.construct = lambda x: plain(x) + 1


class ConvGivenAConstruct(Base):
    def build(self):
        plain = self.conv.construct
        self.conv.construct = lambda x: plain(x) ** 2


class DoublingConv(nn.Conv3d):
    def __call__(self, x):
        return super().__call__(x) ** 2


class ConvWithACall(Base):
    def build(self):
        self.conv = DoublingConv(2, 2, 3)


class ListThatRunsItself(Base):
    class Layers(nn.CellList):
        def construct(self, x):
            y = x
            for layer in self:
                y = layer(x) + y
            return y

    def build(self):
        self.layers = self.Layers([self.conv, self.bn])
        del self._cells["conv"], self._cells["bn"]

    def construct(self, x):
        return self.layers(x)


class ListInAnotherOrder(Base):
    class Layers(nn.CellList):
        def __iter__(self):
            return iter([self[1], self[0]])

    def build(self):
        self.layers = self.Layers([self.conv, self.bn])
        del self._cells["conv"], self._cells["bn"]

    def construct(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class OpensItsBlock(nn.Cell):
    """Runs layers of a block whose source knows nothing of it."""

    def __init__(self):
        super().__init__()
        self.block = Base()

    def construct(self, x):
        return self.block(x) + self.first(self.block)(x)

    def first(self, block):
        return getattr(block, self.name_of_first())

    def name_of_first(self):
        return "conv"


class RunsInTurn(nn.Cell):
    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def construct(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class RunsEach(RunsInTurn):
    def construct(self, x):
        total = x
        for layer in self.layers:
            total = total + layer(x)
        return total


class OneListInTwoCells(nn.Cell):
    def __init__(self, kinds):
        super().__init__()
        layers = nn.CellList([nn.Conv3d(2, 2, 3), bn3d.BatchNorm3d(2)])
        self.one, self.two = (kind(layers) for kind in kinds)

    def construct(self, x):
        return self.one(x) + self.two(x)


class TiedBias(Base):
    def build(self):
        self.conv = nn.Conv3d(2, 2, 3, has_bias=True)
        self.other = nn.Conv3d(2, 2, 3, has_bias=True)
        self.other.bias = self.conv.bias

    def construct(self, x):
        return self.bn(self.conv(x)) + self.other(x)


class HookOnAnotherLayer(Base):
    def build(self):
        self.relu.register_forward_hook(lambda cell, inputs, output: output + self.conv(inputs[0]))

    def construct(self, x):
        return self.bn(self.conv(x)) + self.relu(x)


class HookOnTheContainer(Base):
    """Between the layers: what comes out of the first SequentialCell is doubled."""

    def build(self):
        self.first, self.second = nn.SequentialCell(self.conv), nn.SequentialCell(self.bn)
        del self._cells["conv"], self._cells["bn"]
        self.first.register_forward_hook(lambda cell, inputs, output: output * 2)

    def construct(self, x):
        return self.second(self.first(x))


class PreHookOnTheNorm(Base):
    def build(self):
        self.bn.register_forward_pre_hook(lambda cell, inputs: (inputs[0] * 2,))


class InHalfPrecision(Base):
    def build(self):
        self.conv.to_float(ms.float16)
        self.bn.to_float(ms.float32)


class TwoNormsOfOneConv(Base):
    def build(self):
        self.second = bn3d.BatchNorm3d(2)

    def construct(self, x):
        y = self.conv(x)
        return self.bn(y) + self.second(y)


class OneNormOfTwoConvs(Base):
    def build(self):
        self.other = nn.Conv3d(2, 2, 3)

    def construct(self, x):
        return self.bn(self.conv(x)) + self.bn(self.other(x))


class OnACondition(Base):
    def construct(self, x):
        y = self.conv(x)
        if x.ndim == 4:
            y = self.bn(y)
        return y


class UnderALocalName(Base):
    def construct(self, x):
        conv = self.conv
        y = conv(x)
        return self.bn(y) + conv(x)


class ConvIsConcatenated(Base):
    def construct(self, x):
        y = self.conv(x)
        return ops.concat((self.bn(y), y), 1)


class ListByRange(Base):
    def build(self):
        self.layers = nn.CellList([self.conv, self.bn, nn.Conv3d(2, 2, 3), bn3d.BatchNorm3d(2)])
        del self._cells["conv"], self._cells["bn"]

    def construct(self, x):
        total = x
        for i in range(4):
            total = total + self.layers[i](x)
        return total


class SequentialInADict(Base):
    def build(self):
        self.blocks = {"one": nn.SequentialCell(nn.Conv3d(2, 2, 3), bn3d.BatchNorm3d(2))}

    def construct(self, x):
        block = self.blocks["one"]
        return block[0](x) + block[1](x)


HIDDEN = [
    value
    for value in list(globals().values())
    if isinstance(value, type)
    and issubclass(value, nn.Cell)
    and value.__module__ == __name__
    and value not in (Runs, Shifted, ShiftedStock, DoublingConv, RunsInTurn, RunsEach)
    and value is not OneListInTwoCells
] + [
    functools.partial(OneListInTwoCells, (RunsInTurn, RunsEach)),
    functools.partial(OneListInTwoCells, (RunsEach, RunsInTurn)),
]
IDS = [getattr(kind, "__name__", None) or f"OneListInTwoCells{i}" for i, kind in enumerate(HIDDEN)]


@pytest.mark.filterwarnings("ignore:bn3d.swap leaves")
@pytest.mark.parametrize("kind", HIDDEN, ids=IDS)
@pytest.mark.parametrize("swapped", [False, True], ids=["ours", "swapped"])
def test_hidden_uses_keep_a_layer_from_being_folded(kind, swapped, monkeypatch):
    if swapped:
        monkeypatch.setattr(bn3d, "BatchNorm3d", nn.BatchNorm3d)
    net = randomized(kind())
    monkeypatch.undo()
    if swapped:
        bn3d.swap(net)
    dtype = net(volume()).dtype
    report = assert_folded_alike(net, volume(), tolerance=0)
    assert not report.folded
    assert net(volume()).dtype == dtype


class LooksAtItsOwnWeights(Base):
    """What `construct` does not reach is of no concern: it only sets up the network."""

    def build(self):
        self.init_weights()

    def init_weights(self):
        for cell in self.cells():
            if isinstance(cell, nn.Conv3d):
                cell.weight.set_data(ms.Tensor(np.full(cell.weight.shape, 0.1, np.float32)))
        counts(self)


def counts(net):
    return len(net.trainable_params())


class AsksWhatItIs(Base):
    def construct(self, x):
        if hasattr(self, "bn") and isinstance(self, Base) and getattr(self, "depth", 1):
            return self.bn(self.conv(x))
        return x


class Inherits(Base):
    def __init__(self):
        super().__init__()
        self.head = nn.ReLU()

    def construct(self, x):
        return self.head(super().construct(x))


class HoldsAPlainFunction(Base):
    def build(self):
        self.scale = lambda x: x * 2
        self.again = self.twice

    def twice(self, x):
        return x * 2

    def construct(self, x):
        return self.again(self.scale(self.bn(self.conv(x))))


class RecomputedConv(Base):
    def build(self):
        self.conv.recompute()


class RecomputedNorm(Base):
    def build(self):
        self.bn.recompute()


class RecomputedBlock(nn.Cell):
    def __init__(self, **arguments):
        super().__init__()
        self.block = Base()
        self.block.recompute(**arguments)

    def construct(self, x):
        return self.block(x)


class StagesByName(nn.Cell):
    """Blocks found by computed names; none looks into them."""

    def __init__(self):
        super().__init__()
        self.stage1, self.stage2 = Base(), Base()

    def construct(self, x):
        for i in range(1, 3):
            x = getattr(self, f"stage{i}")(x)
        return x


class BothInHalf(Base):
    def build(self):
        self.to_float(ms.float16)


PLAIN = {
    LooksAtItsOwnWeights: 1,
    AsksWhatItIs: 1,
    Inherits: 1,
    HoldsAPlainFunction: 1,
    RecomputedConv: 1,
    RecomputedNorm: 1,
    StagesByName: 2,
}
for arguments in ways_to_recompute().values():
    PLAIN[functools.partial(RecomputedBlock, **arguments)] = 1


@pytest.mark.parametrize(("kind", "folded"), PLAIN.items())
def test_what_hides_nothing_is_folded(kind, folded):
    report = assert_folded_alike(randomized(kind()), volume())
    assert len(report.folded) == folded


@pytest.mark.parametrize("kind", [RecomputedConv, RecomputedNorm])
def test_a_folded_layer_that_was_recomputed_still_has_gradients(kind, mode):
    net, twin = randomized(kind()), randomized(Base())
    twin.conv.weight.set_data(net.conv.weight)
    x = volume()
    bn3d.fold(net, x)
    bn3d.fold(twin, x)

    def gradient(of):
        def loss(x):
            return (of(x) ** 2).sum()

        return ms.grad(loss)(x).asnumpy()

    np.testing.assert_allclose(gradient(net), gradient(twin), rtol=1e-5)


def test_half_precision_of_both_is_folded():
    net = randomized(BothInHalf())
    report = assert_folded_alike(net, volume(), tolerance=1e-2)
    assert report.folded
    assert net(volume()).dtype == ms.float16
