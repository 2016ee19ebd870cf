"""`bn3d.swap` on whole networks: the same parameters, outputs, gradients and training."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

import bn3d
from support import networks

EVERY = pytest.mark.parametrize("recipe", networks.NETWORKS.values(), ids=networks.NETWORKS)
MODES = pytest.mark.parametrize(
    "mode", [ms.PYNATIVE_MODE, ms.GRAPH_MODE], ids=["pynative", "graph"]
)
pytestmark = pytest.mark.filterwarnings("ignore:.*ShiftedNorm")

LEARNING_RATE = 0.05


@pytest.fixture(autouse=True)
def _mode_restored():
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


def swapped_twin(recipe):
    """A stock network and another with the same weights, swapped."""
    stock, swapped = recipe.build(), recipe.build()
    bn3d.swap(swapped, also=recipe.also)
    return stock, swapped


def parameters(net):
    """By name, also those of layers in plain containers, which MindSpore does not list."""
    found = {p.name: p for p in net.get_parameters()}
    for layer in networks.norms(net):
        found |= {p.name: p for p in layer.get_parameters()}
    return found


def values(net):
    return {name: p.asnumpy().copy() for name, p in parameters(net).items()}


def trainable(net):
    return ms.ParameterTuple([p for p in parameters(net).values() if p.requires_grad])


def assert_close(got, wanted, tolerance=2e-5):
    """Within `tolerance` of the largest value: a gradient that cancels to 0 has no own scale."""
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * max(np.abs(wanted).max(), 1))


def assert_same_values(got, wanted, tolerance=2e-5):
    assert got.keys() == wanted.keys()
    for name in wanted:
        assert_close(got[name], wanted[name], tolerance)


def output_and_gradients(net, x):
    weights = trainable(net)

    def loss(x):
        y = net(x)
        return ops.sin(y).mean(), y

    (_, y), (dx, gradients) = ms.value_and_grad(loss, 0, weights, has_aux=True)(x)
    return y.asnumpy(), dx.asnumpy(), [g.asnumpy() for g in gradients]


def sgd(net, optimizer=None):
    """A training step x -> loss; the optimiser may be older than the swap."""
    optimizer = optimizer or nn.Momentum(net.trainable_params(), LEARNING_RATE, momentum=0.9)

    def loss_of(x):
        return ops.sin(net(x)).mean()

    gradients = ms.value_and_grad(loss_of, None, optimizer.parameters)

    def step(x):
        loss, grads = gradients(x)
        optimizer(grads)
        return float(loss.asnumpy())

    return step


@EVERY
@MODES
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_outputs_gradients_and_statistics_are_the_same(recipe, mode, training):
    ms.set_context(mode=mode)
    stock, swapped = swapped_twin(recipe)
    for net in (stock, swapped):
        net.set_train(training)
        for layer in networks.norms(net):  # set_train does not reach plain containers
            layer.set_train(training)

    wanted = output_and_gradients(stock, recipe.input())
    got = output_and_gradients(swapped, recipe.input())

    assert_close(got[0], wanted[0])
    assert_close(got[1], wanted[1])
    for ours, theirs in zip(got[2], wanted[2], strict=True):
        assert_close(ours, theirs)
    assert_same_values(values(swapped), values(stock))


@EVERY
def test_a_new_network_is_the_same_before_any_set_train(recipe):
    stock, swapped = swapped_twin(recipe)
    assert_close(swapped(recipe.input()).asnumpy(), stock(recipe.input()).asnumpy())
    assert_same_values(values(swapped), values(stock))


@EVERY
def test_cells_and_parameters_stay_the_same_objects(recipe):
    net = recipe.build()
    cells = list(net.cells_and_names())
    before = parameters(net)
    bn3d.swap(net, also=recipe.also)
    after = parameters(net)
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert [name for name, _ in net.cells_and_names()] == [name for name, _ in cells]
    for (_, now), (_, then) in zip(net.cells_and_names(), cells, strict=True):
        assert now is then


@EVERY
def test_every_norm_that_runs_is_ours(recipe, monkeypatch):
    """Counted where the work is done: a layer listed as swapped may not be the one that runs."""
    net = recipe.build()
    bn3d.swap(net, also=recipe.also)
    ours, stock = [], []
    for cls in {type(layer) for layer in networks.norms(net)}:
        if issubclass(cls, bn3d.BatchNorm3d):
            _count_calls(monkeypatch, cls, ours)
    _count_calls(monkeypatch, nn.BatchNorm2d, stock)
    net(recipe.input())
    assert (len(ours), len(stock)) == (recipe.norm_calls, recipe.kept)


def _count_calls(monkeypatch, cls, calls):
    construct = cls.construct

    def counted(self, *args):
        calls.append(self)
        return construct(self, *args)

    monkeypatch.setattr(cls, "construct", counted)


@EVERY
def test_restore_brings_the_stock_network_back(recipe):
    stock, net = recipe.build(), recipe.build()
    layers = list(networks.norms(net))
    classes = [type(layer) for layer in layers]
    attributes = [set(vars(layer)) for layer in layers]
    bn3d.swap(net, also=recipe.also)
    bn3d.restore(net)
    assert [type(layer) for layer in networks.norms(net)] == classes
    assert [set(vars(layer)) for layer in networks.norms(net)] == attributes
    stock.set_train()
    net.set_train()
    np.testing.assert_array_equal(net(recipe.input()).asnumpy(), stock(recipe.input()).asnumpy())
    for name, value in values(stock).items():
        np.testing.assert_array_equal(values(net)[name], value)


@pytest.mark.parametrize("name", networks.ARCHITECTURES)
def test_an_optimizer_built_before_the_swap_goes_on_training(name):
    recipe = networks.NETWORKS[name]
    stock, net = recipe.build().set_train(), recipe.build().set_train()
    optimizer = nn.Momentum(net.trainable_params(), LEARNING_RATE, momentum=0.9)
    train_stock, train = sgd(stock), sgd(net, optimizer)
    for seed in range(2):
        assert train(recipe.input(seed)) == train_stock(recipe.input(seed))
    bn3d.swap(net)
    before = values(net)
    for seed in range(2, 4):
        train(recipe.input(seed))
        train_stock(recipe.input(seed))
    now = values(net)
    assert all((now[p.name] != before[p.name]).any() for p in net.trainable_params())
    assert_same_values(now, values(stock), tolerance=1e-4)


@pytest.mark.parametrize("name", networks.ARCHITECTURES)
@pytest.mark.parametrize("writer", ["stock", "swapped"])
def test_checkpoints_pass_both_ways(name, writer, tmp_path):
    recipe = networks.NETWORKS[name]
    stock, swapped = swapped_twin(recipe)
    source, target = (stock, swapped) if writer == "stock" else (swapped, stock)
    source.set_train()
    sgd(source)(recipe.input(3))
    path = str(tmp_path / "net.ckpt")
    ms.save_checkpoint(source, path)
    missing, unexpected = ms.load_param_into_net(target, ms.load_checkpoint(path), strict_load=True)
    assert (missing, unexpected) == ([], [])
    for net in (source, target):
        net.set_train(False)
    assert_close(target(recipe.input()).asnumpy(), source(recipe.input()).asnumpy())


@MODES
def test_training_converges_to_the_same_network(mode):
    """Losses, logits and weights over ten steps; rounding may drift, nothing else."""
    ms.set_context(mode=mode)
    recipe = networks.NETWORKS["resnet3d"]
    stock, swapped = swapped_twin(recipe)
    losses = []
    for net in (stock, swapped):
        net.set_train()
        step = sgd(net)
        losses.append([step(recipe.input(seed)) for seed in range(10)])
        net.set_train(False)
    assert losses[0][-1] < losses[0][0] - 0.1  # it learned something
    np.testing.assert_allclose(losses[1], losses[0], atol=1e-4)
    assert_close(swapped(recipe.input()).asnumpy(), stock(recipe.input()).asnumpy(), 1e-3)
    assert_same_values(values(swapped), values(stock), tolerance=1e-3)


def test_a_graph_compiled_before_the_swap_compiles_again():
    """Seen by what only bn3d does: one value a channel leaves the moving variance alone."""
    ms.set_context(mode=ms.GRAPH_MODE)
    net = nn.SequentialCell(nn.BatchNorm3d(3)).set_train()
    variance = net[0].bn2d.moving_variance
    x = ms.Tensor(np.ones((1, 3, 1, 1, 1), np.float32))
    net(x)
    assert np.isnan(variance.asnumpy()).all()
    bn3d.swap(net)
    variance.set_data(ms.Tensor(np.full(3, 2, np.float32)))
    net(x)
    np.testing.assert_array_equal(variance.asnumpy(), np.full(3, 2, np.float32))
    bn3d.restore(net)
    net(x)
    assert np.isnan(variance.asnumpy()).all()


def test_a_subclass_stays_a_subclass():
    net = networks.NETWORKS["subclass"].build()
    bn3d.swap(net)
    assert isinstance(net.bn, networks.NamedNorm)
    assert isinstance(net.bn, bn3d.BatchNorm3d)
    assert net.bn.describe() == "norm of 3"


def test_own_construct_is_left_alone_with_a_warning():
    net = networks.NETWORKS["own construct"].build()
    with pytest.warns(UserWarning, match="ShiftedNorm"):
        bn3d.swap(net)
    assert type(net.shifted) is networks.ShiftedNorm
    assert isinstance(net.bn, bn3d.BatchNorm3d)


def test_extra_attributes_survive():
    net = networks.NETWORKS["extra attributes"].build()
    bn3d.swap(net)
    assert (net.bn.transform_final_bn, net.bn.scale) == (True, 0.5)


def test_flags_survive():
    net = networks.NETWORKS["set_train in constructor"].build()
    bn3d.swap(net)
    assert (net.bn1.training, net.bn2.training) == (True, False)
    net = networks.NETWORKS["frozen"].build()
    bn3d.swap(net)
    assert not net.bn1.bn2d.gamma.requires_grad
    assert net.bn2.bn2d.use_batch_statistics is False


def test_initialisers_reach_the_inner_layer():
    net = networks.NETWORKS["resnet3d"].build()
    bn3d.swap(net)
    reached = 0
    for _, cell in net.cells_and_names():
        if isinstance(cell, nn.BatchNorm2d):
            cell.gamma.set_data(ms.Tensor(np.full(cell.num_features, 2, np.float32)))
            reached += 1
        if isinstance(cell, nn.BatchNorm3d):
            cell.bn2d.beta.set_data(ms.Tensor(np.zeros(cell.bn2d.num_features, np.float32)))
    assert reached == 10
    bn = net.stem[1]
    bn.set_train()
    x = ms.Tensor(np.random.default_rng(0).normal(5, 3, (2, 4, 4, 4, 4)).astype(np.float32))
    y = bn(x).asnumpy()
    assert_close(y.mean((0, 2, 3, 4)), np.zeros(4))
    assert_close(y.std((0, 2, 3, 4)), np.full(4, 2.0))


def test_optimizer_groups_by_name_are_the_same():
    def groups(net):
        names = [p.name for p in net.trainable_params()]
        return (
            [name for name in names if name.endswith(("bn2d.gamma", "bn2d.beta"))],
            [name for name in names if "bn" in name],
            [name for name in names if "bn" not in name],
        )

    stock, swapped = swapped_twin(networks.NETWORKS["resnet3d"])
    assert groups(swapped) == groups(stock)
    assert len(groups(swapped)[0]) == 20


@pytest.mark.parametrize("swap_first", [True, False])
def test_mixed_precision_o2_keeps_the_layer_in_float32(swap_first):
    recipe = networks.NETWORKS["resnet3d"]
    stock, swapped = recipe.build().set_train(), recipe.build().set_train()
    if swap_first:
        bn3d.swap(swapped)
    stock = ms.amp.auto_mixed_precision(stock, "O2")
    swapped = ms.amp.auto_mixed_precision(swapped, "O2")
    if not swap_first:
        bn3d.swap(swapped)
    wanted, got = stock(recipe.input()), swapped(recipe.input())
    assert got.dtype == wanted.dtype
    assert_close(got.asnumpy(), wanted.asnumpy(), 2e-3)
    for layer in networks.norms(swapped):
        assert layer.bn2d.gamma.dtype == ms.float32
