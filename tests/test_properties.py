"""Properties that hold for any volume: the native library against the judge, and invariants.

`BN3D_HYPOTHESIS_PROFILE=long` tries 500 cases a property, 4000 in all, instead of 25.
"""

import os
import warnings

import mindspore as ms
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from mindspore import Tensor

import bn3d
from bn3d import reference
from bn3d.backends import library
from support import c_interface

CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
for name, cases in (("short", 25), ("long", 500)):
    settings.register_profile(
        name, max_examples=cases, deadline=None, derandomize=True, suppress_health_check=CHECKS
    )
PROFILE = settings.get_profile(os.environ.get("BN3D_HYPOTHESIS_PROFILE", "short"))

DIMENSIONS = st.integers(1, 9)
SHAPES = st.tuples(DIMENSIONS, st.integers(1, 5), DIMENSIONS, DIMENSIONS, DIMENSIONS)
# Sometimes a dimension of 0, or a channel of several blocks of 2048.
ANY_SHAPES = st.one_of(
    SHAPES,
    st.tuples(st.integers(0, 2), st.integers(1, 2), *[st.integers(0, 2)] * 3),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.just(17), st.just(31), st.just(33)),
)
DTYPES = st.sampled_from(list(c_interface.DTYPES.values()))
SEEDS = st.integers(0, 2**32 - 1)

# Largest exponents of ten that a volume's scale may have, so that its values are normal numbers.
EXPONENTS = {"float32": 30, "float16": 3, "bfloat16": 30, "float64": 30}


@st.composite
def volumes(draw, shapes=SHAPES, dtypes=DTYPES):
    """A `c_interface.Layer` whose x has any scale and a mean up to 1e6 standard deviations, called
    by a thread that counts subnormal numbers as 0 or by one that does not.
    """
    dtype = draw(dtypes)
    shape = draw(shapes)
    most = EXPONENTS[dtype.name]
    scale = 10.0 ** draw(st.floats(-most, most))
    mean = draw(st.floats(-1, 1)) * 10.0 ** draw(st.integers(0, 6))
    if dtype.name == "float16":
        mean = min(max(mean, -10), 10)
    rng = np.random.default_rng(draw(SEEDS))
    x = scale * (rng.standard_normal(shape) + mean)
    seed, flushing = draw(st.integers(0, 99)), draw(st.booleans())
    return c_interface.Layer(x.astype(np.float64), dtype, seed=seed, flushing=flushing)


def wide(layer):
    """The x and dy as the kernels read them, exactly."""
    decode = layer.dtype.decode
    return decode(layer.x).astype(float), decode(layer.dy).astype(float)


def largest(volume):
    """By channel, as (1, C, 1, 1, 1)."""
    return np.abs(volume).max(axis=(0, 2, 3, 4), keepdims=True, initial=0)


def per_channel(vector):
    return np.asarray(vector, float).reshape(1, -1, 1, 1, 1)


def arithmetic(dtype):
    """One rounding in the kernels' arithmetic, and the judge's own error where both are double."""
    return 2.0**-50 if dtype is c_interface.FLOAT64 else 2.0**-24


def output_rounding(dtype, wanted):
    smallest = {"float16": 2.0**-24, "float64": 0.0}.get(dtype.name, 2.0**-133)
    return c_interface.ULP[dtype.name] / 2 * np.abs(wanted) * 1.01 + smallest


def assert_within(got, wanted, tolerance):
    excess = np.abs(np.asarray(got, float) - wanted) - tolerance
    assert excess.max(initial=-1) <= 0, (got, wanted, tolerance)


@settings(PROFILE)
@given(layer=volumes(ANY_SHAPES))
def test_training_is_the_judges(layer):
    x, dy = wide(layer)
    before = layer.moving_mean.copy(), layer.moving_variance.copy()
    y = layer.forward_training()
    wanted = reference.forward_training(
        x, layer.gamma, layer.beta, *before, c_interface.EPS, c_interface.MOMENTUM
    )
    unit = 16 * arithmetic(layer.dtype)
    spread = largest(x - per_channel(wanted.mean))
    rstd = 1 / np.sqrt(wanted.variance + c_interface.EPS)
    # The judge's mean has a rounding error of its own.
    judge = 2.0**-52 * largest(x) * per_channel(layer.gamma * rstd)
    tolerance = unit * (spread * per_channel(layer.gamma * rstd) + largest(wanted.y)) + judge
    assert_within(y, wanted.y, tolerance + output_rounding(layer.dtype, wanted.y))

    scale = np.abs(wanted.moving_mean) + np.abs(before[0]) + spread.ravel()
    assert_within(layer.moving_mean, wanted.moving_mean, 2.0**-22 * scale)
    room = np.float64(np.finfo(np.float32).max)
    fits = np.abs(wanted.moving_variance) < room  # a variance of 1e60 is infinite in float32
    assert_within(
        layer.moving_variance[fits],
        wanted.moving_variance[fits],
        (2.0**-22 * (wanted.moving_variance + wanted.variance) + 2.0**-148)[fits]
        + 2.0**-40 * np.square(largest(x).ravel()[fits] * 2.0**-12),
    )

    dx, dgamma, dbeta = layer.gradient_training()
    dx_wanted, dgamma_wanted, dbeta_wanted = reference.gradient_training(
        dy, x, layer.gamma, wanted.mean, wanted.variance, c_interface.EPS
    )
    normalized = spread * per_channel(rstd)
    steep = largest(dy) * per_channel(layer.gamma * rstd) * (2 + normalized * normalized)
    error = per_channel(2.0**-52 * largest(x).ravel() * rstd)
    tolerance = (unit + error) * steep + output_rounding(layer.dtype, dx_wanted)
    assert_within(dx, dx_wanted, tolerance)
    magnitude = np.abs(dy).sum(axis=(0, 2, 3, 4))
    unit = max(unit, 2.0**-23)  # they are float32
    assert_within(dbeta, dbeta_wanted, unit * magnitude)
    assert_within(
        dgamma, dgamma_wanted, (unit + error.ravel()) * magnitude * (normalized.ravel() + 1)
    )


@settings(PROFILE)
@given(layer=volumes(ANY_SHAPES))
def test_inference_is_the_judges(layer):
    x, dy = wide(layer)
    y = layer.forward_inference()
    statistics = (layer.moving_mean, layer.moving_variance)
    wanted = reference.forward_inference(x, layer.gamma, layer.beta, *statistics, c_interface.EPS)
    unit = 16 * arithmetic(layer.dtype)
    tolerance = unit * (np.abs(wanted) + np.abs(per_channel(layer.beta)) + np.abs(x * 0) + 1)
    assume(np.abs(wanted).max(initial=0) < 6e4 or layer.dtype is not c_interface.FLOAT16)
    assert_within(y, wanted, tolerance + output_rounding(layer.dtype, wanted))
    dx, dgamma, dbeta = layer.gradient_inference()
    wanted = reference.gradient_inference(dy, x, layer.gamma, *statistics, c_interface.EPS)
    assert_within(dx, wanted[0], unit * np.abs(wanted[0]) + output_rounding(layer.dtype, wanted[0]))
    unit = max(unit, 2.0**-23)
    rstd = 1 / np.sqrt(layer.moving_variance.astype(float) + c_interface.EPS)
    products = np.abs(dy * (x - per_channel(layer.moving_mean))).sum(axis=(0, 2, 3, 4)) * rstd
    assert_within(dgamma, wanted[1], unit * products + 2.0**-140)
    assert_within(dbeta, wanted[2], unit * np.abs(dy).sum(axis=(0, 2, 3, 4)))


@settings(PROFILE)
@given(
    seed=SEEDS,
    shape=SHAPES,
    dtype=DTYPES,
    special=st.sampled_from([np.nan, np.inf, -np.inf, 1e-42, -0.0]),
)
def test_special_values_stay_in_their_channel(seed, shape, dtype, special):
    shape = (shape[0], shape[1] + 1, *shape[2:])
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    clean = c_interface.Layer(x, dtype)
    x[rng.integers(shape[0]), 0, 0, 0, 0] = special
    layer = c_interface.Layer(x, dtype)
    y, without = layer.forward_training(), clean.forward_training()
    np.testing.assert_array_equal(y[:, 1:], without[:, 1:])
    for got, wanted in zip(layer.gradient_training(), clean.gradient_training(), strict=True):
        channel = np.take(got, range(1, shape[1]), axis=1 if got.ndim == 5 else 0)
        clean_channel = np.take(wanted, range(1, shape[1]), axis=1 if got.ndim == 5 else 0)
        np.testing.assert_array_equal(channel, clean_channel)
    # Neither NaN nor Inf is lost on the way, and no other value becomes one.
    assert np.isfinite(y[:, 0]).all() == bool(np.isfinite(special))


@settings(PROFILE)
@given(
    seed=SEEDS,
    shape=SHAPES,
    scale=st.floats(-15, 15).map(lambda e: 10.0**e),
    offset=st.floats(-1e3, 1e3),
    sign=st.sampled_from([1, -1]),
)
def test_scale_and_offset_of_x_do_not_matter(seed, shape, scale, offset, sign):
    assume(shape[0] * shape[2] * shape[3] * shape[4] > 1)
    x = np.random.default_rng(seed).standard_normal(shape)
    k = sign * scale
    plain = c_interface.Layer(x, c_interface.FLOAT64, eps=1e-5)
    moved = c_interface.Layer(k * (x + offset), c_interface.FLOAT64, eps=1e-5 * k * k)
    moved.gamma[:], plain.gamma[:] = 1, sign
    moved.beta[:] = plain.beta
    assert_within(moved.forward_training(), plain.forward_training(), 1e-8)


@settings(PROFILE)
@given(layer=volumes(dtypes=st.just(c_interface.FLOAT64)))
def test_gradients_towards_x_sum_to_zero(layer):
    layer.forward_training()
    dx, _, _ = layer.gradient_training()
    x, _ = wide(layer)
    size = np.abs(dx).sum(axis=(0, 2, 3, 4)) + 1e-300
    # What a mean far away costs: its last digit, in units of the deviation.
    error = 1e-11 + 2.0**-48 * largest(x).ravel() * layer.saved[1]
    steep = np.abs(layer.gamma * layer.saved[1]) * np.abs(layer.dy).sum(axis=(0, 2, 3, 4))
    assert (np.abs(dx.sum(axis=(0, 2, 3, 4))) <= error * (size + steep)).all()


@settings(PROFILE)
@given(layer=volumes(dtypes=st.just(c_interface.FLOAT64)), seed=SEEDS)
def test_the_order_of_the_batch_does_not_matter(layer, seed):
    order = np.random.default_rng(seed).permutation(layer.x.shape[0])
    other = c_interface.Layer(layer.x[order], c_interface.FLOAT64)
    other.gamma[:], other.beta[:] = layer.gamma, layer.beta
    other.dy[:] = layer.dy[order]
    y, permuted = layer.forward_training(), other.forward_training()
    tolerance = 1e-12 + 2.0**-48 * largest(layer.x) * per_channel(layer.saved[1])
    assert_within(permuted, y[order], tolerance * (1 + largest(y)))


# Exponents of ten of scales from below the smallest subnormal number.
SMALL = {
    "float16": (-8, -3),
    "float32": (-46, -36),
    "bfloat16": (-42, -36),
    "float64": (-324, -306),
}


@st.composite
def small_volumes(draw):
    """A `c_interface.Layer` of subnormal and other small values, its vectors in any dtype."""
    dtype = draw(DTYPES)
    rng = np.random.default_rng(draw(SEEDS))
    shape = draw(ANY_SHAPES)

    def small(name, like):
        return 10.0 ** draw(st.floats(*SMALL[name])) * rng.standard_normal(like)

    layer = c_interface.Layer(small(dtype.name, shape), dtype)
    if draw(st.booleans()):
        layer.dy = dtype.encode(small(dtype.name, shape))
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        vector = draw(st.sampled_from(["float16", "float32", "float64"]))
        values = np.abs(small(vector, shape[1])) if draw(st.booleans()) else getattr(layer, name)
        setattr(layer, name, np.asarray(values, vector))
    return layer


@settings(PROFILE)
@given(
    layer=st.one_of(volumes(ANY_SHAPES), small_volumes()),
    threads=st.integers(1, 4),
    flushing=st.booleans(),
)
def test_runs_threads_and_environments_give_the_same_bits(layer, threads, flushing):
    moving = layer.moving_mean.copy(), layer.moving_variance.copy()

    def everything():
        layer.moving_mean[:], layer.moving_variance[:] = moving
        outputs = [layer.forward_training(), layer.saved.copy(), *layer.gradient_training()]
        outputs += [layer.moving_mean.copy(), layer.moving_variance.copy()]
        outputs += [layer.forward_inference(), *layer.gradient_inference()]
        return b"".join(np.ascontiguousarray(output).tobytes() for output in outputs)

    native_library = library.load()
    native_library.set_threads(threads)
    try:
        first = everything()
        layer.flushing = flushing
        native_library.set_threads(0)
        assert everything() == first
    finally:
        native_library.set_threads(0)


@settings(PROFILE)
@given(
    seed=SEEDS,
    # MindSpore compiles for each shape in graph mode: a few.
    shape=st.sampled_from([(1, 1, 1, 1, 1), (2, 3, 2, 3, 4), (3, 2, 1, 5, 1), (0, 2, 2, 2, 2)]),
    dtype=st.sampled_from([ms.float32, ms.float16, ms.float64]),
    graph=st.booleans(),
    training=st.booleans(),
    mean=st.sampled_from([0.0, 1e2]),
)
def test_the_layer_is_the_judges(seed, shape, dtype, graph, training, mean):
    x = np.random.default_rng(seed).standard_normal(shape) + mean
    x = Tensor(x, dtype)
    cell = bn3d.BatchNorm3d(shape[1]).set_train(training)
    ms.set_context(mode=ms.GRAPH_MODE if graph else ms.PYNATIVE_MODE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            y = cell(x)
            got = y.asnumpy().astype(float)
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    ones, zeros = np.ones(shape[1]), np.zeros(shape[1])
    exact = x.asnumpy().astype(float)
    wanted = reference.forward_inference(exact, ones, zeros, zeros, ones)
    if training:
        wanted = reference.forward_training(exact, ones, zeros, zeros, ones).y
    assert y.shape == shape
    assert y.dtype == dtype
    relative = 2.0**-10 if dtype == ms.float16 else 2.0**-20
    assert got == pytest.approx(wanted, rel=relative, abs=relative)
