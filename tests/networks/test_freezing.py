"""`bn3d.freeze`: fine-tuning leaves the statistics, and gamma and beta if asked for, alone."""

from __future__ import annotations

import copy
import pickle

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, amp, mint, nn, ops

import bn3d
from support import networks

RECIPE = networks.NETWORKS["resnet3d"]
MODES = pytest.mark.parametrize(
    "mode", [ms.PYNATIVE_MODE, ms.GRAPH_MODE], ids=["pynative", "graph"]
)


@pytest.fixture(autouse=True)
def _mode_restored():
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


def network(ours):
    net = RECIPE.build()
    if ours:
        bn3d.swap(net)
    return net


def changed_by(net, act):
    """The names of the parameters that a function changes."""
    before = {p.name: p.asnumpy().copy() for p in net.get_parameters()}
    act()
    return {p.name for p in net.get_parameters() if not np.array_equal(p.asnumpy(), before[p.name])}


def train(net, steps=2):
    """The names of the parameters that training changed."""
    net.set_train()
    optimizer = nn.Momentum(net.trainable_params(), 0.05, momentum=0.9)

    def loss_of(x):
        return ops.sin(net(x)).mean()

    gradients_of = ms.value_and_grad(loss_of, None, optimizer.parameters)

    def run():
        for seed in range(steps):
            optimizer(gradients_of(RECIPE.input(seed))[1])

    return changed_by(net, run)


def has(names, *ends):
    return any(name.endswith(ends) for name in names)


@MODES
@pytest.mark.parametrize("ours", [True, False], ids=["ours", "stock"])
@pytest.mark.parametrize("affine", [False, True])
def test_training_leaves_alone_what_is_frozen(ours, affine, mode):
    ms.set_context(mode=mode)
    net = network(ours)
    assert len(bn3d.freeze(net, affine=affine)) == RECIPE.norm_calls
    changed = train(net)
    assert has(changed, "conv1.weight")
    assert not has(changed, "moving_mean", "moving_variance")
    assert has(changed, "gamma", "beta") is not affine


@pytest.mark.parametrize("ours", [True, False], ids=["ours", "stock"])
def test_a_frozen_layer_normalises_by_its_statistics_while_training(ours):
    net = network(ours).set_train(False)
    wanted = net(RECIPE.input()).asnumpy()
    bn3d.freeze(net)
    net.set_train()
    np.testing.assert_array_equal(net(RECIPE.input()).asnumpy(), wanted)


@MODES
def test_a_compiled_network_is_frozen_too(mode, backend):
    ms.set_context(mode=mode)
    net = network(True).set_train()
    net(RECIPE.input())
    bn3d.freeze(net)
    assert changed_by(net, lambda: net(RECIPE.input(1))) == set()


def test_a_function_compiled_around_the_network_is_frozen_too():
    net = network(True).set_train()

    @ms.jit
    def step(x):
        return net(x)

    step(RECIPE.input())
    bn3d.freeze(net)
    assert changed_by(net, lambda: step(RECIPE.input(1))) == set()


def test_unfreeze_brings_back_what_was():
    net = networks.NETWORKS["frozen"].build()  # bn1's gamma and bn2's statistics are fixed in it
    bn3d.freeze(net)
    bn3d.freeze(net, affine=True)
    assert len(bn3d.unfreeze(net)) == 2
    assert not net.bn1.bn2d.gamma.requires_grad
    assert net.bn1.bn2d.beta.requires_grad
    assert net.bn1.bn2d.use_batch_statistics is None
    assert net.bn2.bn2d.use_batch_statistics is False
    assert bn3d.unfreeze(net) == []


def test_unfrozen_it_trains_as_before():
    net = network(True)
    bn3d.freeze(net, affine=True)
    bn3d.unfreeze(net)
    changed = train(net)
    assert has(changed, "moving_mean")
    assert has(changed, "gamma")


def test_a_bare_layer():
    layer = bn3d.BatchNorm3d(3)
    assert bn3d.freeze(layer) == [""]
    assert layer.bn2d.use_batch_statistics is False


@pytest.mark.parametrize(
    ("net", "error", "message"),
    [
        (lambda: [], TypeError, "'net' must be a mindspore.nn.Cell, got <class 'list'>"),
        (lambda: nn.Dense(2, 2), ValueError, "found no BatchNorm3d in Dense"),
        (
            lambda: nn.SequentialCell(
                bn3d.BatchNorm3d(3), bn3d.BatchNorm3d(3, use_batch_statistics=True)
            ),
            ValueError,
            "1 normalises by the batch always",
        ),
        (lambda: nn.SequentialCell(mint.nn.BatchNorm3d(3)), ValueError, "swap.net. first"),
    ],
)
def test_what_cannot_be_frozen_is_refused_and_nothing_changed(net, error, message):
    net = net()
    with pytest.raises(error, match=message):
        bn3d.freeze(net)
    if isinstance(net, nn.SequentialCell) and hasattr(net[0], "bn2d"):
        assert net[0].bn2d.use_batch_statistics is None


def test_affine_must_be_a_bool():
    with pytest.raises(TypeError, match="'affine' must be a bool, got 1"):
        bn3d.freeze(bn3d.BatchNorm3d(3), affine=1)


class Tied(nn.Cell):
    """Two layers with one gamma."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.BatchNorm3d(3), nn.BatchNorm3d(3)
        self.b.bn2d.gamma = self.a.bn2d.gamma

    def construct(self, x):
        return self.b(self.a(x))


def state(net):
    """What freeze changes: by parameter, and by layer."""
    layers = [cell.bn2d for _, cell in net.cells_and_names() if isinstance(cell, nn.BatchNorm3d)]
    return (
        [(p.name, p.requires_grad) for p in net.get_parameters()],
        [bn.use_batch_statistics for bn in layers],
        [sorted(vars(bn)) for bn in layers],
    )


def freeze_affine(net):
    bn3d.freeze(net, affine=True)


WAYS = {
    "once": [freeze_affine],
    "twice, then affine": [bn3d.freeze, freeze_affine],
    "affine first": [freeze_affine, bn3d.freeze],
    "a part first": [lambda net: freeze_affine(net.a), freeze_affine],
    "the whole first": [freeze_affine, lambda net: freeze_affine(net.b)],
    "swapped after": [freeze_affine, bn3d.swap],
    "swapped before": [bn3d.swap, freeze_affine, bn3d.restore],
    "a part thawed": [freeze_affine, lambda net: bn3d.unfreeze(net.a)],
    "synchronised": [freeze_affine, lambda net: bn3d.swap(net, sync=True), bn3d.restore],
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("trained", [True, False])
def test_unfreeze_restores_what_layers_share(way, trained):
    net = Tied()
    net.b.bn2d.gamma.requires_grad = trained
    net.b.bn2d.beta.requires_grad = False
    before = state(net)
    for act in way:
        act(net)
    bn3d.unfreeze(net)
    bn3d.restore(net)
    assert state(net) == before


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_of_a_frozen_network_is_unfrozen_alone(copied):
    net = Tied()
    bn3d.swap(net)
    before = state(net)
    bn3d.freeze(net, affine=True)
    frozen = state(net)
    # pickle keeps no network whose cells hold functions of MindSpore; its layers it does
    twin = copied(net) if copied is copy.deepcopy else nn.SequentialCell(copied(net.a))
    assert len(bn3d.unfreeze(twin)) == len(list(twin.cells_and_names())) // 2
    assert all(p.requires_grad for p in twin.get_parameters() if "moving" not in p.name)
    assert state(net) == frozen
    bn3d.unfreeze(net)
    assert state(net) == before


@pytest.mark.parametrize("first", [0, 1])
def test_a_parameter_in_two_networks_is_frozen_until_both_are_thawed(first):
    net = Tied()
    parts = [net.a, net.b]
    gamma = net.a.bn2d.gamma
    for part in parts:
        bn3d.freeze(part, affine=True)
    bn3d.unfreeze(parts.pop(first))
    assert not gamma.requires_grad
    bn3d.unfreeze(parts.pop())
    assert gamma.requires_grad


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("trained", [True, False])
def test_a_parameter_that_takes_the_place_of_a_fixed_one(trained, again):
    """The one that was fixed is trained again, wherever it is now; the new one is as it came."""
    layer = bn3d.BatchNorm3d(3)
    bn3d.freeze(layer, affine=True)
    old, beta = layer.bn2d.gamma, layer.bn2d.beta
    new = Parameter(Tensor(np.ones(3, np.float32)), name="new", requires_grad=trained)
    layer.bn2d.gamma = new
    if again:
        bn3d.freeze(layer, affine=True)
        assert not new.requires_grad
    bn3d.unfreeze(layer)
    assert [old.requires_grad, new.requires_grad, beta.requires_grad] == [True, trained, True]


def test_unfreeze_leaves_what_was_not_fixed():
    layer = bn3d.BatchNorm3d(3)
    bn3d.freeze(layer)
    layer.bn2d.gamma.requires_grad = False
    bn3d.unfreeze(layer)
    assert not layer.bn2d.gamma.requires_grad


@MODES
@pytest.mark.parametrize("affine", [False, True])
def test_a_layer_without_gamma_and_beta(affine, mode):
    ms.set_context(mode=mode)
    net = nn.SequentialCell(mint.nn.BatchNorm3d(3, affine=False)).set_train()
    bn3d.swap(net)
    assert bn3d.freeze(net, affine=affine) == ["0"]
    x = Tensor(np.random.default_rng(0).normal(1, 2, (2, 3, 2, 3, 2)).astype(np.float32))
    assert changed_by(net, lambda: net(x)) == set()
    assert bn3d.unfreeze(net) == ["0"]
    assert changed_by(net, lambda: net(x)) == {"0.running_mean", "0.running_var"}


def test_a_layer_that_has_lost_its_gamma_is_unfrozen():
    net = nn.SequentialCell(mint.nn.BatchNorm3d(3))
    bn3d.swap(net)
    bn3d.freeze(net, affine=True)
    weight, bias = net[0].weight, net[0].bias
    net[0].weight = None
    assert bn3d.unfreeze(net) == ["0"]
    assert weight.requires_grad and bias.requires_grad


@pytest.mark.parametrize("affine", [False, True])
def test_layers_with_one_child(affine):
    a, b = nn.BatchNorm3d(3), nn.BatchNorm3d(3)
    b.bn2d = a.bn2d
    net = nn.SequentialCell(a, b)
    before = state(net)
    assert bn3d.freeze(net, affine=affine) == ["0", "1"]
    assert bn3d.unfreeze(net) == ["0", "1"]
    assert state(net) == before


class Refuses(nn.BatchNorm2d):
    """Cannot be frozen."""

    def __setattr__(self, name, value):
        if name == "use_batch_statistics" and value is not None:
            raise AttributeError("no")
        super().__setattr__(name, value)


@pytest.mark.parametrize("act", [freeze_affine, bn3d.unfreeze])
def test_what_fails_half_way_changes_nothing(act):
    net = Tied()
    if act is bn3d.unfreeze:
        bn3d.freeze(net)
        net.a.bn2d.gamma.requires_grad = False
        net.b.bn2d.beta.requires_grad = False
    net.b.bn2d.__class__ = Refuses
    if act is bn3d.unfreeze:  # the value to go back to is refused
        record = vars(net.b.bn2d)["_bn3d_before_freeze"]
        object.__setattr__(record, "use_batch_statistics", False)
    before = state(net)
    with pytest.raises(AttributeError, match="no"):
        act(net)
    assert state(net) == before


def test_a_layer_that_mixed_precision_wraps_inside():
    """`black_list=[nn.BatchNorm2d]` puts a cell around the child."""
    net = nn.SequentialCell(nn.Conv3d(1, 3, 1), nn.BatchNorm3d(3))
    amped = amp.custom_mixed_precision(net, black_list=[nn.BatchNorm2d]).set_train()
    wrapped = net[1].bn2d
    assert not isinstance(wrapped, nn.BatchNorm2d)
    x = RECIPE.input()
    mean = wrapped._backbone.moving_mean
    assert bn3d.freeze(net) == ["1"]
    amped(x)
    np.testing.assert_array_equal(mean.asnumpy(), np.zeros(3))
    assert bn3d.unfreeze(net) == ["1"]
    amped(x)
    assert (mean.asnumpy() != 0).all()
