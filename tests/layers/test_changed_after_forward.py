"""The gradient is that of what the forward pass computed, whatever changed in between."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, ops

from bn3d import reference
from support.single_layers import GAMMA, OURS, volume

MEAN, VARIANCE = np.array([0.5, -1, 2]), np.array([1, 2, 3])
BETA = np.array([1, 0, -1])
CHANGES = ["gamma", "moving_mean", "moving_variance", "all by set_data", "all by a training step"]


def layer(training, dtype=ms.float32):
    """With statistics and parameters that are not those of a new layer."""
    values = {"gamma": GAMMA, "beta": BETA, "moving_mean": MEAN, "moving_var": VARIANCE}
    inits = {f"{name}_init": Tensor(value, dtype) for name, value in values.items()}
    return OURS(3, dtype=dtype, **inits).set_train(training)


def change(net, what, x):
    bn = net.bn2d
    if what == "all by set_data":
        for parameter in net.get_parameters():
            parameter.set_data(ops.full_like(parameter, 7))
    elif what == "all by a training step":
        training = net.training
        net.set_train()(x + 3)
        ops.assign(bn.gamma, bn.gamma * 3)
        net.set_train(training)
    else:
        parameter = getattr(bn, what)
        ops.assign(parameter, parameter * 3 + 1)


def judge(x, dy, training):
    if training:
        return reference.gradient_training(dy, x, GAMMA, *reference.batch_statistics(x))
    return reference.gradient_inference(dy, x, GAMMA, MEAN, VARIANCE)


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("training", [True, False])
def test_the_gradient(rng, way, training, what):
    x, dy = volume(rng), volume(rng)
    net = layer(training)

    def loss(x):
        y = net(x)
        change(net, what, x)
        return (y * dy).sum()

    dx, (dgamma, dbeta) = ms.grad(loss, 0, weights=net.trainable_params())(x)
    wanted = judge(x.asnumpy(), dy.asnumpy(), training)
    for got, want in zip((dx, dgamma, dbeta), wanted, strict=True):
        np.testing.assert_allclose(got.asnumpy(), want, rtol=0, atol=3e-6 * np.abs(want).max())


@pytest.mark.parametrize("how", ["jit", "graph"])
@pytest.mark.parametrize("training", [True, False])
def test_the_gradient_of_what_is_compiled(rng, way, training, how):
    """The layer alone by `mindspore.jit`, or all of it in graph mode."""
    x, dy = volume(rng), volume(rng)
    net = layer(training)
    parameters = tuple(net.get_parameters())
    forward = ms.jit(net) if how == "jit" else net

    def loss(x):
        y = forward(x)
        for parameter in parameters:
            ops.assign(parameter, ops.full_like(parameter, 7))
        return (y * dy).sum()

    ms.set_context(mode=ms.GRAPH_MODE if how == "graph" else ms.PYNATIVE_MODE)
    try:
        dx, (dgamma, dbeta) = ms.grad(loss, 0, weights=net.trainable_params())(x)
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    assert net.bn2d.gamma.asnumpy().tolist() == [7, 7, 7]
    wanted = judge(x.asnumpy(), dy.asnumpy(), training)
    for got, want in zip((dx, dgamma, dbeta), wanted, strict=True):
        np.testing.assert_allclose(got.asnumpy(), want, rtol=0, atol=3e-6 * np.abs(want).max())


@pytest.mark.parametrize("training", [True, False])
def test_float64_needs_no_cast_that_would_copy(rng, monkeypatch, training):
    monkeypatch.setenv("BN3D_BACKEND", "composed")
    x, dy = volume(rng).astype(ms.float64), volume(rng).astype(ms.float64)
    net = layer(training, ms.float64)

    def loss(x):
        y = net(x)
        change(net, "all by set_data", x)
        return (y * dy).sum()

    dx = ms.grad(loss)(x).asnumpy()
    np.testing.assert_allclose(dx, judge(x.asnumpy(), dy.asnumpy(), training)[0], atol=1e-12)


@pytest.mark.parametrize("what", ["all by set_data", "all by a training step"])
@pytest.mark.parametrize("training", [True, False])
def test_the_gradient_of_the_gradient(rng, way, training, what):
    """Changed after the forward pass, and once more after the gradient."""
    if way == "ascend":
        pytest.skip("MindSpore has no second derivatives of a function that it compiled")
    x, dy = volume(rng), volume(rng)
    results = []
    for changed in (True, False):
        net = layer(training)

        def penalty(x, net=net, changed=changed):
            def loss(x):
                y = net(x)
                if changed:
                    change(net, what, x)
                return (y * dy).sum()

            dx, (dgamma, _) = ms.grad(loss, 0, weights=net.trainable_params())(x)
            if changed:
                change(net, what, x)
            return ops.sin(dx).sum() + ops.sin(dgamma).sum()

        dx, (dgamma, dbeta) = ms.grad(penalty, 0, weights=net.trainable_params())(x)
        results.append([dx.asnumpy(), dgamma.asnumpy(), dbeta.asnumpy()])
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * max(np.abs(want).max(), 1))
