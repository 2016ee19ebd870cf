"""The judge as a backend: shapes in turn, in either mode, and where it is not used."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

import bn3d
from bn3d import backends, reference
from bn3d.commands.verify.check import Case
from bn3d.commands.verify.operators import check_operator
from bn3d.operators import OPERATORS
from support.c_interface import environment


@pytest.fixture(autouse=True)
def by_numpy(monkeypatch):
    monkeypatch.setenv("BN3D_BACKEND", "numpy")


class Loss(nn.Cell):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def construct(self, x, dy):
        return (self.net(x).astype(ms.float32) * dy).sum()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [ms.float32, ms.float16, ms.bfloat16, ms.float64])
def test_several_shapes_in_turn(rng, mode, training, dtype):
    layer = bn3d.BatchNorm3d(3)
    gradient = ms.value_and_grad(Loss(layer).set_train(training), 0, layer.trainable_params())
    moving = np.zeros(3), np.ones(3)
    gamma, beta = np.ones(3), np.zeros(3)
    for shape in ((2, 3, 2, 2, 2), (1, 3, 4, 3, 2), (4, 3, 1, 1, 1), (2, 3, 2, 2, 2)):
        x = ms.Tensor(rng.normal(1, 2, shape), dtype)
        dy = ms.Tensor(rng.normal(size=shape), ms.float32)
        _, (dx, (dgamma, dbeta)) = gradient(x, dy)
        x, dy = x.astype(ms.float32).asnumpy(), dy.astype(dtype).astype(ms.float32).asnumpy()
        if training:
            step = reference.forward_training(x, gamma, beta, *moving)
            want = reference.gradient_training(dy, x, gamma, step.mean, step.variance)
            moving = step.moving_mean, step.moving_variance
        else:
            want = reference.gradient_inference(dy, x, gamma, *moving)
        rtol = {ms.float16: 1e-3, ms.bfloat16: 8e-3}.get(dtype, 1e-6)
        assert dx.dtype == dtype
        for got, wanted in zip((dx.astype(ms.float32), dgamma, dbeta), want, strict=True):
            np.testing.assert_allclose(got.asnumpy(), wanted, rtol=rtol, atol=5 * rtol)
    for parameter, wanted in zip(
        (layer.bn2d.moving_mean, layer.bn2d.moving_variance), moving, strict=True
    ):
        np.testing.assert_allclose(parameter.asnumpy(), wanted, rtol=1e-6, atol=1e-6)


def test_a_shape_that_a_graph_does_not_know(rng):
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        layer = bn3d.BatchNorm3d(3).set_train()
        layer.set_inputs(ms.Tensor(shape=[None, 3, None, None, None], dtype=ms.float32))
        for shape in ((2, 3, 2, 2, 2), (3, 3, 4, 3, 2)):
            x = rng.normal(1, 2, shape).astype(np.float32)
            want = reference.forward_training(x, *np.ones((2, 3)), *np.zeros((2, 3))).y - 1
            np.testing.assert_allclose(layer(ms.Tensor(x)).asnumpy(), want, atol=1e-5)
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)


def test_numpy_itself_computes(mode, monkeypatch):
    calls = []

    def counted(name):
        judge = getattr(reference, name)

        def call(*arguments):
            calls.append(name)
            return judge(*arguments)

        return call

    for name in ("forward_training", "forward_inference", "gradient_training"):
        monkeypatch.setattr(reference, name, counted(name))
    net = Loss(bn3d.BatchNorm3d(3))
    x = ms.ops.ones((2, 3, 2, 2, 2))
    net(x, x).asnumpy()
    ms.grad(net.set_train())(x, x).asnumpy()
    assert calls == ["forward_inference", "forward_training", "gradient_training"]


def test_its_errors_arrive(mode, monkeypatch):
    def judge(*_):
        raise ArithmeticError("out of order")

    monkeypatch.setattr(reference, "forward_inference", judge)
    with pytest.raises((ArithmeticError, RuntimeError), match="out of order"):
        bn3d.BatchNorm3d(3)(ms.ops.ones((2, 3, 2, 2, 2))).asnumpy()


# A subnormal number of each dtype with some digits.
SUBNORMALS = {ms.float16: 2.0**-20, ms.float32: 2.0**-140, ms.bfloat16: 2.0**-130,
              ms.float64: 2.0**-1040}  # fmt: skip


@pytest.mark.parametrize("flushing", [False, True])
@pytest.mark.parametrize("dtype", SUBNORMALS)
def test_subnormal_numbers_count(mode, dtype, flushing):
    """Also on threads where they do not, as those of MindSpore's graphs."""
    unit = SUBNORMALS[dtype]
    integers = np.arange(1.0, 25).reshape(2, 3, 4, 1, 1)
    layer = bn3d.BatchNorm3d(3, momentum=0.0, eps=0.0)
    for parameter in layer.get_parameters():
        parameter.set_dtype(ms.float64)
    x = ms.Tensor(integers * unit, dtype)
    with environment(flushing):
        y = layer.set_train(False)(x)
        layer.set_train()(x).asnumpy()
        y = y.asnumpy() if dtype != ms.bfloat16 else y.astype(ms.float32).asnumpy()
        mean = layer.bn2d.moving_mean.asnumpy()
    np.testing.assert_array_equal(y.astype(np.float64) / unit, integers)
    np.testing.assert_allclose(mean / unit, integers.mean((0, 2, 3, 4)), rtol=1e-12)


def test_nothing_chooses_it_by_itself(monkeypatch):
    monkeypatch.setenv("BN3D_BACKEND", "auto")
    backends._choose.cache_clear()
    monkeypatch.setattr(backends, "_obstacle", lambda name, _: "no" if name == "native" else None)
    assert backends.choose().name == "composed"
    backends._choose.cache_clear()


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.type)
def test_its_operators_are_right(mode, operator):
    backend = backends.choose().backend
    case = Case((2, 3, 4, 5, 6), "float32", mode)
    assert all(check.ok for check in check_operator(backend, operator, case))
