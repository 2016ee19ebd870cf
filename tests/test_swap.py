"""`bn3d.swap` and `bn3d.restore`: what they take, what they leave, what they report."""

import copy
import pickle

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, amp, nn

import bn3d


class LookAlike(nn.Cell):
    """A network's own class of the same build."""

    def __init__(self, channels):
        super().__init__()
        self.bn2d = nn.BatchNorm2d(channels)

    def construct(self, x):
        n, c, d, h, w = x.shape
        return self.bn2d(x.reshape(n, c, d * h, w)).reshape(n, c, d, h, w)


class Other(nn.Cell):
    """Not of that build."""

    def construct(self, x):
        return x


class KeepsConstruct(nn.BatchNorm3d):
    def extend_repr(self):
        return "mine"


class OwnConstruct(nn.BatchNorm3d):
    def construct(self, x):
        return 2 * super().construct(x)


def volume(seed=0):
    return Tensor(np.random.default_rng(seed).normal(1, 2, (2, 3, 4, 5, 6)).astype(np.float32))


def test_what_was_replaced_and_what_not():
    net = nn.SequentialCell(nn.BatchNorm3d(3), OwnConstruct(3), bn3d.BatchNorm3d(3), nn.ReLU())
    with pytest.warns(UserWarning, match="OwnConstruct has a construct of its own"):
        report = bn3d.swap(net)
    assert report.changed == ["0"]
    assert report.already == ["2"]
    assert list(report.left) == ["1"]
    assert "OwnConstruct" in str(report)
    assert type(net[1]) is OwnConstruct


def test_twice_changes_nothing():
    net = nn.SequentialCell(nn.BatchNorm3d(3))
    bn3d.swap(net)
    kind = type(net[0])
    report = bn3d.swap(net)
    assert (report.changed, report.already) == ([], ["0"])
    assert type(net[0]) is kind


def test_a_bare_layer():
    layer = nn.BatchNorm3d(3).set_train()
    assert bn3d.swap(layer).changed == [""]
    assert isinstance(layer, bn3d.BatchNorm3d)
    assert layer(volume()).shape == (2, 3, 4, 5, 6)


def test_restore_leaves_no_trace():
    layer = nn.BatchNorm3d(3).set_train()
    layer(volume())
    attributes, primitives = set(layer.__dict__), set(layer._primitives)
    bn3d.swap(layer)
    assert bn3d.restore(layer).changed == [""]
    assert type(layer) is nn.BatchNorm3d
    assert set(layer.__dict__) == attributes
    assert set(layer._primitives) == primitives


def test_restore_keeps_layers_that_were_built_as_ours():
    layer = bn3d.BatchNorm3d(3)
    report = bn3d.restore(nn.SequentialCell(layer))
    assert (report.changed, report.already) == ([], ["0"])
    assert type(layer) is bn3d.BatchNorm3d


def test_a_subclass_stays_one():
    layer = KeepsConstruct(3)
    bn3d.swap(layer)
    assert isinstance(layer, KeepsConstruct) and isinstance(layer, bn3d.BatchNorm3d)
    assert layer.extend_repr() == "mine"
    assert type(layer).__name__ == "KeepsConstruct"


def test_a_look_alike_needs_to_be_named(mode):
    net, twin = nn.SequentialCell(LookAlike(3)).set_train(), nn.SequentialCell(LookAlike(3))
    twin.set_train()
    with pytest.warns(UserWarning, match=r"no mindspore.nn.BatchNorm3d.*also=\(ThatClass,\)"):
        bn3d.swap(net)
    assert bn3d.swap(net, also=(LookAlike,)).changed == ["0"]
    np.testing.assert_allclose(net(volume()).asnumpy(), twin(volume()).asnumpy(), atol=1e-5)


def test_a_class_of_another_build_changes_nothing():
    net = nn.SequentialCell(nn.BatchNorm3d(3), Other())
    with pytest.raises(ValueError, match=r"'also': Other has no mindspore.nn.BatchNorm2d"):
        bn3d.swap(net, also=(Other,))
    assert type(net[0]) is nn.BatchNorm3d


@pytest.mark.parametrize(
    "arguments, says",
    [
        ((object(),), "'net' must be a mindspore.nn.Cell, got object"),
        ((nn.ReLU(), LookAlike), "'also' must be a tuple of classes"),
        ((nn.ReLU(), ["LookAlike"]), "'also' must hold classes, got 'LookAlike'"),
    ],
)
def test_wrong_arguments(arguments, says):
    with pytest.raises(TypeError, match=says):
        bn3d.swap(*arguments)


def test_nothing_to_swap_is_said():
    with pytest.warns(UserWarning, match="found no mindspore.nn.BatchNorm3d to change in ReLU"):
        bn3d.swap(nn.ReLU())


def test_eps_and_momentum_are_those_that_the_layer_computes_with():
    layer, twin = (nn.BatchNorm3d(3, eps=0.5, momentum=0.2).set_train() for _ in range(2))
    for other in (layer, twin):
        other.bn2d.eps = 1e-9
        other.bn2d.momentum = other.momentum = 0.9
    bn3d.swap(layer)
    np.testing.assert_allclose(layer(volume()).asnumpy(), twin(volume()).asnumpy(), atol=1e-6)
    mean, wanted = layer.bn2d.moving_mean.asnumpy(), twin.bn2d.moving_mean.asnumpy()
    np.testing.assert_allclose(mean, wanted, rtol=1e-6)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_swapped_layer_is_copied_as_one(copied):
    layer = nn.BatchNorm3d(3).set_train()
    bn3d.swap(layer)
    twin = copied(layer)
    assert type(twin) is type(layer)
    np.testing.assert_array_equal(twin(volume()).asnumpy(), layer(volume()).asnumpy())
    bn3d.restore(twin)
    assert type(twin) is nn.BatchNorm3d


@pytest.mark.parametrize("level", ["O1", "O2", "O3", "auto"])
@pytest.mark.parametrize("swap_first", [True, False])
def test_mixed_precision_before_and_after(mode, level, swap_first):
    def build(swapped):
        net = nn.SequentialCell(nn.Conv3d(3, 3, 1, weight_init="ones"), nn.BatchNorm3d(3))
        if swapped and swap_first:
            bn3d.swap(net)
        net = amp.auto_mixed_precision(net, level).set_train()
        if swapped and not swap_first:
            bn3d.swap(net)
        return net(volume())

    ours, stock = build(True), build(False)
    assert ours.dtype == stock.dtype
    np.testing.assert_allclose(
        ours.astype(ms.float32).asnumpy(), stock.astype(ms.float32).asnumpy(), atol=1e-2
    )
