"""The layer under `to_float` and `amp`, against stock."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import amp, nn

from layers import OURS, STOCK, InNetwork, assert_same, layer, moving, step, volume


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
