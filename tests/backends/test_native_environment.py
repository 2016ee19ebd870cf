"""The library gives the same numbers whatever its caller's floating-point environment: threads of
MindSpore's graphs count subnormal numbers as 0.
"""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, ops

import bn3d
from bn3d import backends, reference
from support import c_interface

SHAPE = (2, 3, 5, 7, 11)  # 385 values in a run: not a multiple of any vector's length
# Within the subnormal numbers of each dtype, several digits of them.
SUBNORMAL = {"float16": 2e-5, "float32": 3e-39, "bfloat16": 3e-39, "float64": 1e-308}
EACH_DTYPE = pytest.mark.parametrize("dtype", c_interface.DTYPES.values(), ids=c_interface.DTYPES)


def wide(array):
    return array.astype(float)


def subnormal_volumes(rng, dtype, **arguments):
    """Integers of 1 to 9 in units that are subnormal, for x and for dy."""
    unit = SUBNORMAL[dtype.name] / 9
    layer = c_interface.Layer(unit * rng.integers(1, 10, SHAPE), dtype, flushing=True, **arguments)
    layer.dy = dtype.encode(unit * rng.integers(1, 10, SHAPE))
    return layer, wide(dtype.decode(layer.x)), wide(dtype.decode(layer.dy))


@EACH_DTYPE
def test_subnormal_volumes_count(rng, dtype):
    layer, x, dy = subnormal_volumes(rng, dtype, momentum=0.0)
    layer.moving_mean, layer.moving_variance = np.zeros(3), np.ones(3)
    layer.beta = np.zeros(3)  # or y would be beta
    y = layer.forward_training()
    wanted = reference.forward_training(
        x, layer.gamma, layer.beta, [0] * 3, [1] * 3, c_interface.EPS, 0.0
    )
    np.testing.assert_allclose(layer.moving_mean, wanted.moving_mean, rtol=1e-6)
    np.testing.assert_allclose(wide(y), wanted.y, rtol=0.02, atol=0.02 * np.abs(wanted.y).max())

    _, dgamma, dbeta = layer.gradient_training()
    _, dgamma_wanted, dbeta_wanted = reference.gradient_training(
        dy, x, layer.gamma, wanted.mean, wanted.variance, c_interface.EPS
    )
    smallest = 2.0**-149  # they are float32
    np.testing.assert_allclose(dbeta, dbeta_wanted, rtol=1e-6, atol=smallest)
    np.testing.assert_allclose(dgamma, dgamma_wanted, rtol=1e-4, atol=smallest)


def test_a_small_gradient_in_float16_counts(rng):
    """As in a network without loss scaling."""
    layer = c_interface.Layer(rng.standard_normal((2, 2, 3, 3, 3)), c_interface.FLOAT16)
    layer.dy = (1e-5 * rng.standard_normal(layer.x.shape)).astype(np.float16)
    layer.flushing = True
    layer.forward_training()
    _, dgamma, _ = layer.gradient_training()
    mean, variance = layer.saved[0], layer.saved[1] ** -2 - c_interface.EPS
    _, wanted, _ = reference.gradient_training(
        wide(layer.dy), wide(layer.x), layer.gamma, mean, variance, c_interface.EPS
    )
    np.testing.assert_allclose(dgamma, wanted, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_subnormal_parameters_and_statistics_count(dtype):
    """In inference, by a volume that brings them back to normal numbers."""
    unit = dtype(np.finfo(dtype).smallest_subnormal * 64)
    layer = c_interface.Layer(np.zeros(SHAPE), c_interface.FLOAT64, eps=0.0, flushing=True)
    layer.gamma, layer.beta = np.full(3, unit), np.arange(3, dtype=dtype) * unit
    layer.moving_mean = np.full(3, unit)
    layer.moving_variance = np.ones(3)
    layer.x[:] = -3 * float(unit)
    wanted = reference.forward_inference(
        layer.x, layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance, 0.0
    )
    assert np.abs(wanted).max() > 0
    np.testing.assert_array_equal(layer.forward_inference(), wanted)


@EACH_DTYPE
def test_subnormal_results_are_written(dtype):
    unit = SUBNORMAL[dtype.name]
    layer = c_interface.Layer(np.zeros(SHAPE), dtype, flushing=True)
    layer.beta = np.array([unit, -unit, unit / 2])
    wanted = dtype.decode(dtype.encode(layer.beta)).reshape(1, 3, 1, 1, 1)
    assert (np.abs(wanted) > 0).all()
    assert (layer.forward_training() == wanted).all()
    assert (layer.forward_inference() != 0).all()


@pytest.mark.skipif(backends.choose().name != "native", reason="not the native backend")
@pytest.mark.parametrize("dtype", [ms.float16, ms.bfloat16, ms.float32], ids=str)
def test_graph_mode_counts_what_pynative_mode_counts(rng, dtype):
    unit = {ms.float16: 1e-6}.get(dtype, 1e-40)
    x = Tensor(unit * rng.integers(1, 10, (2, 3, 5, 7, 11)), ms.float64).astype(dtype)
    wanted = x.astype(ms.float64).asnumpy().mean(axis=(0, 2, 3, 4))
    found = {}
    for mode in (ms.PYNATIVE_MODE, ms.GRAPH_MODE):
        ms.set_context(mode=mode)
        try:
            layer = bn3d.BatchNorm3d(3, momentum=0.0).set_train()
            layer(x)
            found[mode] = layer.bn2d.moving_mean.asnumpy()
        finally:
            ms.set_context(mode=ms.PYNATIVE_MODE)
        np.testing.assert_allclose(found[mode], wanted, rtol=1e-6, atol=2.0**-149)
    assert found[ms.PYNATIVE_MODE].tobytes() == found[ms.GRAPH_MODE].tobytes()


def test_a_small_gradient_in_graph_mode_counts(rng):
    x = Tensor(rng.standard_normal((2, 2, 3, 3, 3)), ms.float16)
    dy = Tensor(1e-5 * rng.standard_normal(x.shape), ms.float16)
    layer = bn3d.BatchNorm3d(2).set_train()
    gradient = ops.GradOperation(get_by_list=True, sens_param=True)
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        got = gradient(layer, [layer.bn2d.gamma])(x, dy)[0].asnumpy()
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    exact = x.asnumpy().astype(float)
    forward = reference.forward_training(exact, [1] * 2, [0] * 2, [0] * 2, [1] * 2)
    _, wanted, _ = reference.gradient_training(
        dy.asnumpy().astype(float), exact, np.ones(2), forward.mean, forward.variance
    )
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
