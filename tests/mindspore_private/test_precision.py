"""The layer under `to_float` and `amp`, against stock."""

import copy
import pickle

import mindspore as ms
import numpy as np
import pytest
from mindspore import amp, nn

import bn3d
from support.single_layers import OURS, STOCK, InNetwork, assert_same, layer, moving, step, volume


@pytest.mark.parametrize("level", ["O0", "O1", "O2", "O3", "auto"])
def test_mixed_precision(rng, mode, level):
    x = volume(rng)
    results = []
    for cls in (OURS, STOCK):
        net = amp.auto_mixed_precision(InNetwork(layer(cls)), level).set_train()
        results.append([net(x).asnumpy(), *moving(net), *step(net, x), *moving(net)])
    assert_same(*results, tolerance=1e-5 if level == "O0" else 3e-3)


def test_to_float(rng, mode, backend):
    x = volume(rng)
    results = []
    for cls in (OURS, STOCK):
        net = InNetwork(layer(cls))
        net.norm.to_float(ms.float16)
        results.append([net(x).asnumpy(), *moving(net)])
    assert_same(*results, tolerance=3e-3)


def test_a_training_step_under_to_float(rng, mode, backend):
    """The gradient is taken inside of the cell whose operators' inputs are cast."""
    x, target = volume(rng), volume(rng)
    results = []
    for cls in (OURS, STOCK):
        net = layer(cls)
        optimizer = nn.SGD(net.trainable_params(), 0.1)
        train = nn.TrainOneStepCell(nn.WithLossCell(net, nn.MSELoss()), optimizer)
        train.to_float(ms.float16).set_train()
        loss = train(x, target).astype(ms.float32).asnumpy()
        results.append([loss, *moving(net), *[p.asnumpy() for p in net.trainable_params()]])
    assert_same(*results, tolerance=3e-3)


def test_more_values_than_float16_can_count(rng, mode, backend):
    x = volume(rng, (1, 3, 33, 64, 64))
    net = layer(OURS)
    net.to_float(ms.float16)
    net(x)
    rounded = x.asnumpy().astype(np.float16).astype(float)
    axes = (0, 2, 3, 4)
    wanted = 0.1 * rounded.mean(axes), 0.9 + 0.1 * rounded.var(axes, ddof=1)
    np.testing.assert_allclose(moving(net), wanted, rtol=1e-5)


LISTS = {
    "black 2-D": {"black_list": [nn.BatchNorm2d]},
    "black 3-D": {"black_list": [nn.BatchNorm3d]},
    "black both": {"black_list": [nn.BatchNorm2d, nn.BatchNorm3d]},
    "white 2-D": {"white_list": [nn.BatchNorm2d]},
    "white 3-D": {"white_list": [nn.BatchNorm3d]},
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("lists", LISTS)
@pytest.mark.parametrize("build", ["built", "swapped"])
def test_lists_of_cells(rng, mode, lists, training, build):
    """MindSpore puts a cell around the child `bn2d` that is on its black list."""
    x = volume(rng)
    results = []
    for cls in (OURS if build == "built" else STOCK, STOCK):
        net = InNetwork(layer(cls))
        net.relu = nn.Identity()  # at whose bend rounding would decide on the gradient
        if build == "swapped" and not results:
            bn3d.swap(net)
        net = amp.custom_mixed_precision(net, **LISTS[lists]).set_train(training)
        results.append([net(x).asnumpy(), *moving(net), *step(net, x), *moving(net)])
        names = [parameter.name for parameter in net.get_parameters()]
        results[-1].append(np.array([len(names), len({*names})]))
    assert_same(*results, tolerance=1e-2)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_of_a_layer_on_the_black_list(rng, copied):
    x = volume(rng)
    net = layer(OURS)
    amp.custom_mixed_precision(net, black_list=[nn.BatchNorm2d])
    twin = copied(net)
    assert type(twin.bn2d) is type(net.bn2d)
    assert_same([twin(x).asnumpy(), *moving(twin)], [net(x).asnumpy(), *moving(net)], 0)
