"""The Ascend backend's computation, with the CPU's operators in place of the device's, against the
judge and against the CPU backend.
"""

from __future__ import annotations

import dataclasses

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

from backends import standin
from bn3d import BatchNorm3d, reference
from bn3d.backends import native, split
from bn3d.backends.backend import Operators

NATIVE = native.BACKEND.operators
SHAPE = (2, 3, 4, 5, 6)
TOLERANCE = {"float32": 3e-6, "float16": 1e-3, "bfloat16": 1.6e-2}


def volumes(mean=0.5, shape=SHAPE, dtype="float32"):
    random = np.random.default_rng(7)
    pair = random.normal(mean, 1, shape), random.normal(0, 1, shape)
    return [as_float32(ms.Tensor(v.astype(np.float32), getattr(ms, dtype))) for v in pair]


def vectors(channels=3):
    random = np.random.default_rng(8)
    return [random.normal(1, 0.5, channels).astype(np.float32) for _ in range(2)]


def as_float32(tensor):
    return tensor.astype(ms.float32).asnumpy()


@pytest.fixture
def on_ascend(ascend, monkeypatch):
    standin.use(ascend, monkeypatch)


def needs_zeros(dtype):
    """In PyNative mode they are the gradient of an output that nothing reads."""
    if ms.get_context("mode") == ms.GRAPH_MODE:
        return
    try:
        ms.ops.zeros((1,), getattr(ms, dtype)).asnumpy()
    except TypeError:
        pytest.skip(f"MindSpore {ms.__version__} has no Zeros of {dtype} on a CPU")


@pytest.mark.usefixtures("on_ascend")
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_training_and_its_gradient(mode, dtype):
    needs_zeros(dtype)
    x, dy = volumes(dtype=dtype)
    gamma, beta = vectors()
    layer = BatchNorm3d(3, gamma_init=ms.Tensor(gamma), beta_init=ms.Tensor(beta))
    net = standin.Gradient(layer).set_train()
    tensors = [ms.Tensor(v, getattr(ms, dtype)) for v in (x, dy)]
    y, ((dx,), (dgamma, dbeta)) = net(*tensors)

    want = reference.forward_training(x, gamma, beta, np.zeros(3), np.ones(3))
    gradients = reference.gradient_training(dy, x, gamma, want.mean, want.variance)
    assert (y.dtype, dx.dtype, dgamma.dtype) == (tensors[0].dtype, tensors[0].dtype, ms.float32)
    at_most = TOLERANCE[dtype]
    np.testing.assert_allclose(as_float32(y), want.y, atol=at_most, rtol=at_most)
    np.testing.assert_allclose(as_float32(dx), gradients[0], atol=at_most, rtol=at_most)
    np.testing.assert_allclose(dgamma.asnumpy(), gradients[1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dbeta.asnumpy(), gradients[2], rtol=1e-5, atol=1e-5)
    moving = layer.bn2d.moving_mean, layer.bn2d.moving_variance
    np.testing.assert_allclose(moving[0].asnumpy(), want.moving_mean, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(moving[1].asnumpy(), want.moving_variance, rtol=1e-6)


@pytest.mark.usefixtures("on_ascend")
def test_inference_and_its_gradient(mode):
    x, dy = volumes()
    gamma, beta = vectors()
    mean, variance = vectors()
    variance = np.abs(variance) + 0.1
    layer = BatchNorm3d(
        3,
        eps=1e-3,
        gamma_init=ms.Tensor(gamma),
        beta_init=ms.Tensor(beta),
        moving_mean_init=ms.Tensor(mean),
        moving_var_init=ms.Tensor(variance),
    )
    net = standin.Gradient(layer).set_train(False)
    y, ((dx,), (dgamma, dbeta)) = net(ms.Tensor(x), ms.Tensor(dy))

    want = reference.forward_inference(x, gamma, beta, mean, variance, 1e-3)
    gradients = reference.gradient_inference(dy, x, gamma, mean, variance, 1e-3)
    np.testing.assert_allclose(y.asnumpy(), want, rtol=3e-6, atol=3e-6)
    for got, expected in zip((dx, dgamma, dbeta), gradients, strict=True):
        np.testing.assert_allclose(got.asnumpy(), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(layer.bn2d.moving_mean.asnumpy(), mean)
    np.testing.assert_array_equal(layer.bn2d.moving_variance.asnumpy(), variance)


class Net(nn.Cell):
    """Two layers in a row: the first one's dx is used, and an optimizer changes gamma."""

    def __init__(self, like=None):
        super().__init__()
        self.first, self.second = (
            (BatchNorm3d(3), BatchNorm3d(3))
            if like is None
            else (standin.layer_like(like.first), standin.layer_like(like.second))
        )
        self.weight = ms.Parameter(ms.Tensor(np.ones((1, 3, 1, 1, 1), np.float32)))

    def construct(self, x, target):
        y = self.second(ops.sin(self.first(x * self.weight)))
        return ((y - target) ** 2).mean()


def train(net, batches):
    optimizer = nn.Momentum(net.trainable_params(), 0.3, 0.9)
    step = nn.TrainOneStepCell(net, optimizer)
    step.set_train()
    losses = [float(step(ms.Tensor(x), ms.Tensor(t)).asnumpy()) for x, t in batches]
    return losses, [p.asnumpy() for p in net.get_parameters()]


def test_five_optimizer_steps_equal_those_of_the_cpu_backend(mode, ascend, monkeypatch):
    random = np.random.default_rng(0)
    batches = random.normal(3, 2, (5, 2, *SHAPE)).astype(np.float32)
    cpu = Net()
    with monkeypatch.context() as patch:
        standin.use(ascend, patch)
        device = Net(like=cpu)
    assert device.first._bn3d_forward_training is ascend.forward_training
    (cpu_losses, cpu_weights), (losses, weights) = train(cpu, batches), train(device, batches)
    np.testing.assert_allclose(losses, cpu_losses, rtol=1e-5)
    for got, want in zip(weights, cpu_weights, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("on_ascend")
@pytest.mark.parametrize("mean", [1e3, 1e4])
def test_a_far_mean_at_the_first_step_costs_no_digits(mode, mean):
    x, dy = volumes(mean)
    net = standin.Gradient(layer := BatchNorm3d(3, momentum=0.0)).set_train()
    y, ((dx,), _) = net(ms.Tensor(x), ms.Tensor(dy))
    want = reference.forward_training(x, np.ones(3), np.zeros(3), np.zeros(3), np.ones(3))
    gradient = reference.gradient_training(dy, x, np.ones(3), want.mean, want.variance)[0]
    np.testing.assert_allclose(y.asnumpy(), want.y, atol=3e-6)
    np.testing.assert_allclose(dx.asnumpy(), gradient, atol=3e-6)
    unbiased = want.variance * 240 / 239
    np.testing.assert_allclose(layer.bn2d.moving_variance.asnumpy(), unbiased, rtol=1e-5)


@pytest.mark.parametrize("compiled", [None, ms.jit])
def test_mixed_precision_leaves_the_statistics_in_float32(mode, compiled, monkeypatch):
    """In float16 the sums would overflow."""
    functions = split.build(NATIVE, compiled=compiled)
    backend = dataclasses.replace(native.BACKEND, settings=split.settings, **functions._asdict())
    standin.use(backend, monkeypatch)
    x, _ = volumes(300.0, dtype="float16")
    layer = BatchNorm3d(3, momentum=0.0).to_float(ms.float16).set_train()
    y = layer(ms.Tensor(x))
    want = reference.forward_training(x, np.ones(3), np.zeros(3), np.zeros(3), np.ones(3))
    np.testing.assert_allclose(as_float32(y), want.y, rtol=2e-3, atol=2e-3)
    unbiased = want.variance * 240 / 239
    np.testing.assert_allclose(layer.bn2d.moving_mean.asnumpy(), want.mean, rtol=1e-6)
    np.testing.assert_allclose(layer.bn2d.moving_variance.asnumpy(), unbiased, rtol=1e-5)


@pytest.mark.usefixtures("on_ascend")
def test_one_value_a_channel_leaves_the_moving_variance(mode):
    layer = BatchNorm3d(3, momentum=0.5).set_train()
    y = layer(ms.Tensor(np.full((1, 3, 1, 1, 1), 4.0, np.float32)))
    np.testing.assert_array_equal(y.asnumpy(), np.zeros((1, 3, 1, 1, 1)))
    np.testing.assert_array_equal(layer.bn2d.moving_mean.asnumpy(), np.full(3, 2.0))
    np.testing.assert_array_equal(layer.bn2d.moving_variance.asnumpy(), np.ones(3))


class Ranks:
    """A group of this device and another with a batch of its own; counts what it is asked."""

    def __init__(self, x, dy):
        self.asked = []
        self.count = float(x.size // x.shape[1])
        self.vectors = [ms.Tensor(v.astype(np.float32)) for v in self.sums_of(x, dy)]

    @staticmethod
    def sums_of(x, dy):
        zeros = np.zeros(x.shape[1])
        mean, variance = reference.batch_statistics(x)
        dgamma, dbeta = reference.gradient_training(dy, x, zeros + 1, mean, variance)[1:]
        return (*reference.reduce(x, zeros), dgamma, dbeta)

    def statistics(self, shift, first, second, count):
        self.asked.append("statistics")
        zeros = ops.zeros_like(shift)
        first, second = first + self.vectors[0], second + self.vectors[1]
        return zeros, first, second, ms.Tensor([count + self.count], ms.float32)

    def sums(self, first, second):
        self.asked.append("sums")
        return first + self.vectors[2], second + self.vectors[3]

    def channel_mean(self, x):
        raise NotImplementedError


def refusing(name):
    """An operator that takes no empty volume, as those of Ascend."""

    def call(*inputs):
        assert inputs[0].size, name
        return getattr(NATIVE, name)(*inputs)

    return call


@pytest.fixture
def refusing_operators():
    return Operators(*map(refusing, Operators._fields))


EMPTY = (0, 3, 2, 2, 2)


@pytest.mark.parametrize("compiled", [None, ms.jit])
@pytest.mark.parametrize("training", [True, False])
def test_an_empty_batch_calls_no_operator(refusing_operators, compiled, training):
    functions = split.build(refusing_operators, compiled=compiled)
    gamma, beta = (ms.Tensor(v) for v in vectors())
    mean, variance = (ms.Parameter(gamma * 0 + value, name=str(value)) for value in (2, 3))

    def loss(x, gamma, beta):
        if training:
            y = functions.forward_training(x, gamma, beta, mean, variance, (1e-5, 0.9, 2))[0]
        else:
            y = functions.forward_inference(x, gamma, beta, mean, variance, (1e-5, 0.9, 2))
        assert y.shape == EMPTY
        return y.sum()

    dx, dgamma, dbeta = ms.grad(loss, (0, 1, 2))(ms.Tensor(np.zeros(EMPTY, "f")), gamma, beta)
    assert dx.shape == EMPTY
    assert (dgamma.asnumpy() == 0).all() and (dbeta.asnumpy() == 0).all()
    assert (mean.asnumpy() == 2).all() and (variance.asnumpy() == 3).all()


@pytest.mark.parametrize("compiled", [None, ms.jit])
def test_an_empty_batch_takes_part_in_the_group(refusing_operators, compiled):
    """Compiled, the whole call would do nothing, and the other devices would wait for ever."""
    x, dy = volumes()
    group = Ranks(x, dy)
    functions = split.build(refusing_operators, group, compiled)
    ones = ms.Tensor(np.ones(3, np.float32))
    mean, variance = (ms.Parameter(ones * value, name=str(value)) for value in (0, 1))

    def loss(x, gamma, beta):
        return functions.forward_training(x, gamma, beta, mean, variance, (1e-5, 0.9, 2))[0].sum()

    empty = ms.Tensor(np.zeros(EMPTY, np.float32))
    dx, dgamma, dbeta = ms.grad(loss, (0, 1, 2))(empty, ones, ones)
    assert group.asked == ["statistics", "sums"]
    want = reference.forward_training(x, np.ones(3), np.zeros(3), np.zeros(3), np.ones(3))
    np.testing.assert_allclose(mean.asnumpy(), want.moving_mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(variance.asnumpy(), want.moving_variance, rtol=1e-5)
    assert dx.shape == EMPTY
    assert (dgamma.asnumpy() == 0).all() and (dbeta.asnumpy() == 0).all()


def test_an_empty_batch_in_a_graph(refusing_operators):
    """Beside something that is not empty."""
    forward = split.build(refusing_operators).forward_training
    ones = ms.Tensor(np.ones(3, np.float32))
    mean, variance = (ms.Parameter(ones * value, name=str(value)) for value in (2, 3))

    @ms.jit
    def both(x, empty):
        return x + 1, forward(empty, ones, ones, mean, variance, (1e-5, 0.9, 2))[0]

    plus_one, y = both(ones, ms.Tensor(np.zeros(EMPTY, np.float32)))
    assert (plus_one.asnumpy() == 2).all() and y.shape == EMPTY
    assert (mean.asnumpy() == 2).all() and (variance.asnumpy() == 3).all()


@pytest.mark.usefixtures("on_ascend")
def test_shapes_that_are_known_at_the_run_only():
    ms.set_context(mode=ms.GRAPH_MODE)
    layer = BatchNorm3d(3).set_train()
    layer.set_inputs(ms.Tensor(shape=[None, 3, None, None, None], dtype=ms.float32))
    moving = np.zeros(3), np.ones(3)
    for shape in (SHAPE, (1, 3, 2, 2, 7), (1, 3, 1, 1, 1)):
        x, _ = volumes(shape=shape)
        want = reference.forward_training(x, np.ones(3), np.zeros(3), *moving)
        np.testing.assert_allclose(layer(ms.Tensor(x)).asnumpy(), want.y, atol=3e-6)
        moving = want.moving_mean, want.moving_variance
        got = layer.bn2d.moving_mean.asnumpy(), layer.bn2d.moving_variance.asnumpy()
        np.testing.assert_allclose(got, moving, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_gradient_of_the_gradient_equals_the_composed_backend(mode, training):
    """Composed of MindSpore's operators, all derivatives are MindSpore's."""
    from bn3d.backends import composed  # noqa: PLC0415 - named by this test alone

    x, dy = (ms.Tensor(v) for v in volumes())
    gamma, beta = (ms.Tensor(v) for v in vectors())
    zeros, ones = ops.zeros_like(gamma), ops.ones_like(gamma)

    def second(forward_training, forward_inference, settings):
        def penalty(x, gamma):
            def loss(x, gamma):
                if training:
                    y = forward_training(x, gamma, beta, zeros, ones, settings)[0]
                else:
                    y = forward_inference(x, gamma, beta, zeros, ones, settings)
                return (y**3 * dy).sum()

            return (ms.grad(loss)(x, gamma) ** 2).sum()

        return ms.grad(penalty, (0, 1))(x, gamma)

    got = second(*split.build(NATIVE), (1e-5, 1.0, 2))
    want = second(composed.forward_training, composed.forward_inference, (1e-5, 1.0))
    for mine, other in zip(got, want, strict=True):
        scale = np.abs(other.asnumpy()).max()
        np.testing.assert_allclose(mine.asnumpy(), other.asnumpy(), atol=1e-5 * scale)


@pytest.mark.parametrize("reductions", [1, 2])
def test_operators_are_called_in_this_order_with_these_shapes(reductions):
    ms.set_context(mode=ms.PYNATIVE_MODE)
    calls = []

    def recorded(name):
        def call(*inputs):
            assert [i.dtype for i in inputs if i.ndim == 1] == [ms.float32] * (
                sum(i.ndim == 1 for i in inputs)
            )
            calls.append((name, [i.ndim for i in inputs]))
            return getattr(NATIVE, name)(*inputs)

        return call

    functions = split.build(Operators(*map(recorded, Operators._fields)))
    x, dy = (ms.Tensor(v) for v in volumes())
    gamma, beta = (ms.Tensor(v) for v in vectors())
    zeros, ones = ops.zeros_like(gamma), ops.ones_like(gamma)

    def training(x):
        settings = 1e-5, 1.0, reductions
        return (functions.forward_training(x, gamma, beta, zeros, ones, settings)[0] * dy).sum()

    def inference(x):
        return (functions.forward_inference(x, gamma, beta, zeros, ones, (1e-5,)) * dy).sum()

    ms.grad(training)(x)
    assert calls == [
        *[("reduce", [5, 1])] * reductions,
        ("apply", [5, 1, 1, 1]),
        ("grad_reduce", [5, 5, 1]),
        ("grad_apply", [5, 5, 1, 1, 1, 1]),
    ]
    calls.clear()
    ms.grad(inference)(x)
    assert calls == [
        ("apply", [5, 1, 1, 1]),
        ("grad_reduce", [5, 5, 1]),
        ("apply", [5, 1, 1, 1]),
    ]


def test_reductions_by_the_environment(monkeypatch):
    monkeypatch.delenv(split.REDUCTIONS_VARIABLE, raising=False)
    assert split.settings(1e-5, 0.9) == (1e-5, 0.9, 2)
    monkeypatch.setenv(split.REDUCTIONS_VARIABLE, "1")
    assert split.settings(1e-5, 0.9) == (1e-5, 0.9, 1)
    monkeypatch.setenv(split.REDUCTIONS_VARIABLE, "3")
    with pytest.raises(ValueError, match="BN3D_REDUCTIONS must be 1 or 2, got '3'"):
        split.settings(1e-5, 0.9)
