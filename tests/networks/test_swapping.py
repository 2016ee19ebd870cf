"""`bn3d.swap` and `bn3d.restore`: what they take, what they leave, what they report."""

import copy
import pickle
import subprocess
import sys

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, amp, nn, ops

import bn3d
from support.networks import LookAlike
from support.single_layers import ways_to_recompute


class Other(nn.Cell):
    """Not of the build of `LookAlike`."""

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
    assert "also=(OwnConstruct,)) takes it all the same, and that construct runs no more" in str(
        report
    )
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


def test_restore_leaves_no_trace(backend):
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
    with pytest.warns(UserWarning, match=r"'0' alone: .*LookAlike.*also=\(LookAlike,\)"):
        report = bn3d.swap(net)
    assert (report.changed, list(report.left)) == ([], ["0"])
    assert bn3d.swap(net, also=(LookAlike,)).changed == ["0"]
    np.testing.assert_allclose(net(volume()).asnumpy(), twin(volume()).asnumpy(), atol=1e-5)


def test_a_class_of_another_build_changes_nothing():
    net = nn.SequentialCell(nn.BatchNorm3d(3), Other())
    with pytest.raises(ValueError, match=r"'also': Other has no mindspore.nn.BatchNorm2d"):
        bn3d.swap(net, also=(Other,))
    assert type(net[0]) is nn.BatchNorm3d


class OtherSelf(nn.Cell):
    """A look-alike whose construct does not name its first argument `self`."""

    def __init__(self, channels):
        super().__init__()
        self.bn2d = nn.BatchNorm2d(channels)

    def construct(this, x):  # noqa: N805
        n, c, d, h, w = x.shape
        return this.bn2d(x.reshape(n, c, d * h, w)).reshape(n, c, d, h, w)


class MyBatchNorm3D(Other):
    """By its name a batch norm."""


class TwoInputs(LookAlike):
    def construct(self, x, mask):
        return super().construct(x * mask)


class Block2d(nn.Cell):
    """Of a network for images."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn2d = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)


class WrapsBatchNorm3d(nn.Cell):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm3d(3)


def test_the_first_argument_may_have_another_name():
    net = nn.SequentialCell(OtherSelf(3))
    assert bn3d.swap(net, also=(OtherSelf,)).changed == ["0"]


def test_two_inputs_are_not_taken():
    with pytest.raises(ValueError, match=r"must take one input, got \['x', 'mask'\]"):
        bn3d.swap(nn.SequentialCell(TwoInputs(3)), also=(TwoInputs,))


def test_what_looks_like_a_batch_norm_is_reported():
    layers = nn.BatchNorm3d(3), LookAlike(3), MyBatchNorm3D(), TwoInputs(3)
    net = nn.SequentialCell(*layers, Block2d(), WrapsBatchNorm3d())
    with pytest.warns(UserWarning):
        report = bn3d.swap(net)
    assert report.changed == ["0", "5.bn"]
    assert list(report.left) == ["1", "2", "3"]
    assert "swap(net, also=(LookAlike,))" in report.left["1"]
    assert "MyBatchNorm3D has no mindspore.nn.BatchNorm2d in 'bn2d'" in report.left["2"]
    assert "must take one input" in report.left["3"]


@pytest.mark.parametrize(
    "arguments, says",
    [
        ((object(),), "'net' must be a mindspore.nn.Cell, got <class 'object'>"),
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


@pytest.mark.filterwarnings("ignore:bn3d.swap leaves")
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


def test_what_amp_level_o1_rewrote_is_left_and_said_why():
    def build():
        return nn.SequentialCell(nn.SequentialCell(nn.Conv3d(3, 3, 1), nn.BatchNorm3d(3)))

    net = amp.auto_mixed_precision(build(), "O1")
    why = r"MindSpore's amp level O1 made BatchNorm3dOpt(_\d+)? of it: swap before that"
    with pytest.warns(UserWarning, match=why):
        assert list(bn3d.swap(net).left) == ["0.1"]
    net = build()
    assert bn3d.swap(net).changed == ["0.1"]
    assert bn3d.swap(amp.auto_mixed_precision(net, "O1")).already == ["0.1"]


def train_step(layer):
    """Gradients of the input and the parameters; it also updates the moving statistics."""
    net = nn.SequentialCell(nn.ReLU(), layer)  # a graph does not take a bare recomputed layer
    net.set_train()

    def loss(x):
        return (net(x) ** 3).mean()

    weights = ms.ParameterTuple(layer.trainable_params())
    return ms.value_and_grad(loss, 0, weights)(volume())


def flat(step):
    loss, (dx, others) = step
    return [each.asnumpy() for each in (loss, dx, *others)]


def computes_with_ours(layer):
    """Told by one value a channel: stock makes the moving variance NaN of it."""
    net = nn.SequentialCell(nn.ReLU(), layer).set_train()

    def loss(x):
        return net(x).sum()

    ms.grad(loss)(Tensor(np.ones((1, 3, 1, 1, 1), np.float32)))  # only then it recomputes
    return not np.isnan(layer.bn2d.moving_variance.asnumpy()).any()


@pytest.mark.parametrize("arguments", ways_to_recompute().values(), ids=ways_to_recompute())
@pytest.mark.parametrize("first", ["recompute", "swap"])
def test_a_recomputed_layer_is_swapped_and_restored(mode, arguments, first):
    layer, twin = nn.BatchNorm3d(3), bn3d.BatchNorm3d(3)
    twin.recompute(**arguments)
    for act in (first, {"recompute": "swap", "swap": "recompute"}[first]):
        if act == "swap":
            assert bn3d.swap(layer).changed == [""]
        else:
            layer.recompute(**arguments)
    for got, wanted in zip(flat(train_step(layer)), flat(train_step(twin)), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    updated_once = 0.1 * np.maximum(volume().asnumpy(), 0).mean((0, 2, 3, 4))
    np.testing.assert_allclose(layer.bn2d.moving_mean.asnumpy(), updated_once, rtol=1e-5)
    assert computes_with_ours(layer)
    assert bn3d.restore(layer).changed == [""]
    assert not computes_with_ours(layer)


def test_a_recompute_of_an_unknown_kind_is_left():
    layer = nn.BatchNorm3d(3)
    layer._recompute_cell = lambda x: x
    with pytest.warns(UserWarning, match="recomputed in a way that is not known"):
        report = bn3d.swap(layer)
    assert (report.changed, list(report.left)) == ([], [""])
    assert type(layer) is nn.BatchNorm3d


@pytest.mark.parametrize("change", [bn3d.swap, bn3d.restore])
def test_a_construct_set_on_the_layer_itself_is_left(change):
    layer = nn.BatchNorm3d(3)
    if change is bn3d.restore:
        bn3d.swap(layer)
    kind = type(layer)
    amp.auto_mixed_precision(layer, "auto")
    with pytest.warns(UserWarning, match='construct set on the layer itself, as .* "auto" does'):
        report = change(layer)
    assert (report.changed, list(report.left)) == ([], [""])
    assert type(layer) is kind


class Step(nn.Cell):
    """A cell around the network, of which the network does not know."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def construct(self, x):
        return self.net(x) * 2


def jitted(net):
    @ms.jit
    def step(x):
        return net(x) * 2

    return step


def jitted_gradient(net):
    def forward(x):
        return ops.stop_gradient(net(x) * 2)

    gradient = ms.value_and_grad(forward, 0)

    @ms.jit
    def step(x):
        return gradient(x)[0]

    return step


class Tripled(LookAlike):
    """Told from bn3d by its output, whatever a graph has cached."""

    def construct(self, x):
        n, c, d, h, w = x.shape
        return 3 * self.bn2d(x.reshape(n, c, d * h, w)).reshape(n, c, d, h, w)


@pytest.mark.parametrize("around", [Step, jitted, jitted_gradient])
def test_graphs_compiled_around_the_network_follow(around):
    ms.set_context(mode=ms.GRAPH_MODE if around is Step else ms.PYNATIVE_MODE)
    try:
        net = nn.SequentialCell(Tripled(3)).set_train()
        step = around(net)
        first = step(volume())  # not read before its graph is gone
        bn3d.swap(net, also=(Tripled,))
        second = step(volume())
        bn3d.restore(net)
        third = step(volume())
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    assert [round(float(y.asnumpy().std())) for y in (first, second, third)] == [6, 2, 6]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="MindSpore captures up to 3.11")
@pytest.mark.parametrize("computed_by", ["native", "numpy"])
def test_statistics_are_updated_by_captured_bytecode(monkeypatch, computed_by):
    monkeypatch.setenv("BN3D_BACKEND", computed_by)
    layer = nn.BatchNorm3d(3).set_train()
    bn3d.swap(layer)

    @ms.jit(capture_mode="bytecode")
    def run(x):
        return layer(x)

    x = volume()
    run(x)
    updated_once = 0.1 * x.asnumpy().mean((0, 2, 3, 4))
    np.testing.assert_allclose(layer.bn2d.moving_mean.asnumpy(), updated_once, rtol=1e-5)


def test_a_graph_loaded_from_a_file_goes_on(tmp_path):
    """MindSpore compiles such a one only once."""
    net = nn.SequentialCell(nn.Conv3d(3, 3, 1)).set_train(False)
    ms.export(net, volume(), file_name=str(tmp_path / "net"), file_format="MINDIR")
    loaded = nn.GraphCell(ms.load(str(tmp_path / "net.mindir")))
    wanted = loaded(volume()).asnumpy()
    bn3d.swap(nn.BatchNorm3d(3))
    np.testing.assert_array_equal(loaded(volume()).asnumpy(), wanted)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_graph_of_a_copied_cell_follows(copied):
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        step = copied(Step(nn.SequentialCell(Tripled(3)).set_train()))
        before = step(volume()).asnumpy().std()
        bn3d.swap(step.net, also=(Tripled,))
        after = step(volume()).asnumpy().std()
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    assert (round(float(before)), round(float(after))) == (6, 2)


def test_training_by_a_graph_goes_on_after_the_swap(backend):
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        trained = []
        for swapped in (False, True):
            ms.set_seed(0)
            net = nn.SequentialCell(nn.Conv3d(3, 3, 1), nn.BatchNorm3d(3)).set_train()
            optimizer = nn.Momentum(net.trainable_params(), 0.05, 0.9)
            step = nn.TrainOneStepCell(nn.WithLossCell(net, nn.MSELoss()), optimizer)
            for seed in range(4):
                if swapped and seed == 2:
                    before = [p.asnumpy().copy() for p in step.get_parameters()]
                    bn3d.swap(net)
                    for p, value in zip(step.get_parameters(), before, strict=True):
                        np.testing.assert_array_equal(p.asnumpy(), value)
                step(volume(seed), 2 * volume(seed))
            trained.append({p.name: p.asnumpy() for p in step.get_parameters()})
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    assert any(name.startswith("moments") for name in trained[0])
    for name, wanted in trained[0].items():
        np.testing.assert_allclose(trained[1][name], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "statement", ["import bn3d.networks.swapping", "from bn3d import SwapReport"]
)
def test_the_function_is_not_hidden_by_a_module(statement, child_environment):
    code = f"{statement}; import bn3d; bn3d.swap(__import__('mindspore').nn.BatchNorm3d(3))"
    subprocess.run([sys.executable, "-c", code], check=True, env=child_environment)
