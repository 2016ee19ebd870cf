"""The native kernels through their C interface, against the judge."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bn3d import reference
from bn3d.backends import library
from support import c_interface

# Vector and block edges: below, at and above 8, 32 and 2048 values in a run and in a channel.
SHAPES = [
    (2, 3, 1, 1, 1),
    (3, 2, 1, 1, 7),
    (8, 5, 1, 4, 4),
    (2, 4, 3, 5, 7),
    (1, 3, 4, 8, 8),
    (5, 2, 3, 11, 13),
    (2, 3, 8, 16, 16),
    (2, 3, 8, 16, 17),
    (1, 2, 33, 32, 33),
    (2, 70, 2, 16, 16),
]
EACH_DTYPE = pytest.mark.parametrize("dtype", c_interface.DTYPES.values(), ids=c_interface.DTYPES)


def wide(layer):
    """The layer's volumes as the kernels see them: rounded to the dtype, then exact."""
    return layer.dtype.decode(layer.x).astype(float), layer.dtype.decode(layer.dy).astype(float)


def judge_training(layer, moving_mean, moving_variance):
    x, dy = wide(layer)
    forward = reference.forward_training(
        x,
        layer.gamma,
        layer.beta,
        moving_mean,
        moving_variance,
        c_interface.EPS,
        c_interface.MOMENTUM,
    )
    gradient = reference.gradient_training(
        dy, x, layer.gamma, forward.mean, forward.variance, c_interface.EPS
    )
    return forward, gradient


def assert_ulps(got, wanted, dtype):
    """Within 4 units in the last place, of the value or of 1 if it is smaller. The judge's own
    float64 is no better than a float64 kernel's, so there both may be some off.
    """
    ulps = 32 if dtype is c_interface.FLOAT64 else 4
    error = np.abs(got - wanted) / np.maximum(np.abs(wanted), 1)
    assert error.max(initial=0) <= ulps * c_interface.ULP[dtype.name]


def assert_relative(got, wanted, tolerance=1e-6):
    """Relative to the vector's typical size: a sum that cancels to 0 has none of its own."""
    scale = np.sqrt(np.mean(np.square(wanted))) + 1e-300
    assert np.abs(got - wanted).max() <= tolerance * scale


@EACH_DTYPE
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_training_forward_and_gradient(rng, shape, dtype):
    layer = c_interface.Layer(rng.standard_normal(shape), dtype)
    old = layer.moving_mean.copy(), layer.moving_variance.copy()
    forward, gradient = judge_training(layer, *old)

    assert_ulps(layer.forward_training(), forward.y, dtype)
    np.testing.assert_allclose(layer.moving_mean, forward.moving_mean, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(layer.moving_variance, forward.moving_variance, rtol=1e-6)
    np.testing.assert_allclose(layer.saved[0], forward.mean, rtol=1e-6, atol=1e-7)

    dx, dgamma, dbeta = layer.gradient_training()
    assert_ulps(dx, gradient[0], dtype)
    assert_relative(dgamma, gradient[1], 3e-6)
    assert_relative(dbeta, gradient[2])


@EACH_DTYPE
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_inference_forward_and_gradient(rng, shape, dtype):
    layer = c_interface.Layer(rng.standard_normal(shape), dtype)
    x, dy = wide(layer)
    moving = layer.moving_mean, layer.moving_variance, c_interface.EPS

    wanted = reference.forward_inference(x, layer.gamma, layer.beta, *moving)
    assert_ulps(layer.forward_inference(), wanted, dtype)
    dx, dgamma, dbeta = layer.gradient_inference()
    wanted = reference.gradient_inference(dy, x, layer.gamma, *moving)
    assert_ulps(dx, wanted[0], dtype)
    assert_relative(dgamma, wanted[1], 3e-6)
    assert_relative(dbeta, wanted[2])


@pytest.mark.parametrize("mean", [1e3, 3e5, -3e5])
@pytest.mark.parametrize("std", [1.0, 0.25])
def test_a_mean_far_from_zero_costs_no_digits(rng, mean, std):
    layer = c_interface.Layer(rng.normal(mean, std, (2, 3, 16, 24, 24)))
    forward, gradient = judge_training(layer, layer.moving_mean.copy(), layer.moving_variance)
    assert_ulps(layer.forward_training(), forward.y, c_interface.FLOAT32)
    np.testing.assert_allclose(layer.saved[0], forward.mean, rtol=1e-6)
    np.testing.assert_allclose(layer.saved[1] ** -2 - c_interface.EPS, forward.variance, rtol=1e-6)
    assert_ulps(layer.gradient_training()[0], gradient[0], c_interface.FLOAT32)


def test_a_corner_far_from_the_rest_costs_no_digits(rng):
    """Padding of 0 in front of tissue at 1000: no value of the volume is a good shift for all."""
    x = rng.normal(1000, 1, (1, 2, 32, 32, 64))
    x[:, :, 0] = 0
    layer = c_interface.Layer(x)
    forward, _ = judge_training(layer, layer.moving_mean.copy(), layer.moving_variance)
    layer.forward_training()
    np.testing.assert_allclose(layer.saved[1] ** -2 - c_interface.EPS, forward.variance, rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "noise", "bright"),
    [(131072, 0, 1.1), (131072, 0, 1.575), (2048, 1, 1e5), (2048, 1, 8e5)],
)
def test_one_bright_value_costs_no_digits(rng, values, noise, bright):
    """Beside its square, all additions of a part of the sum may round the same way."""
    x = noise * rng.standard_normal((1, 1, 1, 1, values))
    x[..., 0] = bright
    layer = c_interface.Layer(x)
    forward, _ = judge_training(layer, layer.moving_mean.copy(), layer.moving_variance)
    assert_ulps(layer.forward_training(), forward.y, c_interface.FLOAT32)
    np.testing.assert_allclose(layer.saved[1] ** -2 - c_interface.EPS, forward.variance, rtol=1e-6)


@pytest.mark.parametrize(("eps", "steepness"), [(c_interface.EPS, 1), (0.0, 1), (1e-70, 1e6)])
@pytest.mark.parametrize("value", [0.0, 0.1, -7e4, 1e30])
def test_a_constant_channel_gives_beta(value, eps, steepness):
    """Also where gamma/sqrt(eps) is beyond float32."""
    layer = c_interface.Layer(np.full((2, 3, 5, 6, 7), value), eps=eps)
    layer.gamma *= np.float32(steepness)
    y = layer.forward_training()
    assert (y == layer.beta.reshape(1, -1, 1, 1, 1)).all()


@pytest.mark.parametrize("shape", [(2, 3, 5, 6, 7), (1, 3, 1, 1, 1), (0, 3, 2, 2, 2)], ids=str)
@EACH_DTYPE
def test_a_constant_channel_without_eps_is_pytorchs(rng, dtype, shape):
    """Beta, and no gradient but beta's; the channels beside it are not to notice."""
    torch = pytest.importorskip("torch")
    x = rng.standard_normal(shape)
    x[:, 1] = 3
    layer = c_interface.Layer(x, dtype, eps=0.0)
    y = layer.forward_training()
    dx, dgamma, dbeta = layer.gradient_training()
    assert (layer.saved[1, 1], dgamma[1]) == (0, 0)
    assert (dx[:, 1] == 0).all()
    assert (y[:, 1] == dtype.decode(dtype.encode(layer.beta))[1]).all()
    if x.size <= 3:  # PyTorch takes no empty channel and no single value
        return
    peer = torch.tensor(dtype.decode(layer.x).astype(np.float64), requires_grad=True)
    gamma, beta = (
        torch.tensor(v.astype(np.float64), requires_grad=True) for v in (layer.gamma, layer.beta)
    )
    # torch.nn.functional.batch_norm refuses such an eps.
    wanted = torch.batch_norm(peer, gamma, beta, None, None, True, 0.0, 0.0, False)
    wanted.backward(torch.tensor(dtype.decode(layer.dy).astype(np.float64)))
    ulp = c_interface.ULP[dtype.name]
    np.testing.assert_allclose(y, wanted.detach().numpy(), rtol=2 * ulp, atol=max(ulp, 1e-6))
    np.testing.assert_allclose(dx, peer.grad.numpy(), rtol=2 * ulp, atol=max(ulp, 1e-5))
    np.testing.assert_allclose(dgamma, gamma.grad.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dbeta, beta.grad.numpy(), rtol=1e-5, atol=1e-5)


def test_a_channel_without_variance_in_inference_is_the_formulas(rng):
    """Inf, and NaN where x is the mean."""
    layer = c_interface.Layer(rng.standard_normal((2, 3, 2, 3, 4)), eps=0.0)
    layer.moving_variance[1] = 0
    layer.x[0, 1, 0, 0] = layer.moving_mean[1]
    got = layer.forward_inference()
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = reference.forward_inference(
            layer.x.astype(float), layer.gamma, layer.beta, layer.moving_mean,
            layer.moving_variance, 0.0,
        )  # fmt: skip
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    assert np.isnan(got[0, 1, 0, 0]).all()
    assert np.isinf(got[1, 1]).all()


@pytest.mark.parametrize("scale", [1e18, 1e-18, 1e30, 1e-30])
def test_scales_whose_squares_leave_float32(rng, scale):
    x = (rng.standard_normal((2, 3, 8, 9, 10)) * scale).astype(np.float32)
    layer = c_interface.Layer(x, eps=0.0)
    wanted = reference.forward_training(x, layer.gamma, layer.beta, [0] * 3, [1] * 3, eps=0.0)
    assert_ulps(layer.forward_training(), wanted.y, c_interface.FLOAT32)
    dx, dgamma, _ = layer.gradient_training()
    wanted = reference.gradient_training(
        layer.dy, x, layer.gamma, wanted.mean, wanted.variance, eps=0.0
    )
    assert_ulps(dx * np.float64(scale), wanted[0] * scale, c_interface.FLOAT32)
    assert_relative(dgamma, wanted[1], 3e-6)


def test_many_values_a_channel():
    """2^28 values, as a pattern repeated, so that the judge needs only one of it."""
    pattern = np.random.default_rng(3).normal(30, 0.25, 2**20).astype(np.float32)
    repeats = 2**8
    x = np.tile(pattern, repeats).reshape(1, 1, 2**8, 2**10, 2**10)
    shift = np.array([pattern[0]])
    sums = np.zeros(1), np.zeros(1)
    c_interface.call("Bn3dReduce", x, shift, *sums)
    wanted = reference.reduce(pattern.reshape(1, 1, 1, 1, -1), shift)
    for got, want in zip(sums, wanted, strict=True):
        assert got.item() == pytest.approx(want.item() * repeats, rel=1e-6)
    c_interface.call("Bn3dGradReduce", x, x, shift, *sums)
    wanted = reference.grad_reduce(*[pattern.reshape(1, 1, 1, 1, -1)] * 2, shift)
    for got, want in zip(sums, wanted, strict=True):
        assert got.item() == pytest.approx(want.item() * repeats, rel=1e-6)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 77])
def test_nan_and_inf_go_where_pytorch_puts_them(rng, poison, where):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((2, 3, 4, 5, 6)).astype(np.float32)
    x[1, 1].flat[where] = poison
    layer = c_interface.Layer(x)
    peer = torch.nn.BatchNorm3d(3, momentum=0.1)
    with torch.no_grad():
        peer.weight.copy_(torch.from_numpy(layer.gamma))
        peer.bias.copy_(torch.from_numpy(layer.beta))
        peer.running_mean.copy_(torch.from_numpy(layer.moving_mean))
        peer.running_var.copy_(torch.from_numpy(layer.moving_variance))
    wanted = peer(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(layer.forward_training(), wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean, peer.running_mean.numpy(), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, peer.running_var.numpy(), rtol=1e-5)


def test_an_infinite_first_value_makes_the_moving_mean_infinite(rng):
    x = rng.standard_normal((1, 1, 4, 4, 4))
    x.flat[0] = np.inf
    layer = c_interface.Layer(x)
    layer.forward_training()
    assert layer.moving_mean[0] == np.inf


def operator(name, *vectors, x, dy=None):
    """One of the four operators on float32 volumes, its vectors in float64: a volume, or sums."""
    inputs = [np.full((1, 1, 1, 1, 4), v, np.float32) for v in (dy, x) if v is not None]
    inputs += [np.array([v], np.float64) for v in vectors]
    sums = [np.zeros(1), np.zeros(1)]
    outputs = sums if "Reduce" in name else [np.empty_like(inputs[0])]
    c_interface.call(name, *inputs, *outputs)
    return [float(o.flat[0]) for o in outputs]


def test_vectors_beyond_float32_and_their_signs():
    assert operator("Bn3dGradReduce", 1e39, dy=1, x=2) == pytest.approx([4, -4e39])
    assert operator("Bn3dGradReduce", 0, dy=3e37, x=1e-20) == pytest.approx([1.2e38, 1.2e18])
    assert operator("Bn3dReduce", 1e39, x=2) == pytest.approx([-4e39, 4e78])
    assert operator("Bn3dApply", 1e39, 1e-39, 2, x=3) == pytest.approx([1])
    assert operator("Bn3dApply", 0, 1e39, -1e39, x=2) == [np.inf]
    assert operator("Bn3dApply", 1, 1e39, -1e39, x=2) == [0]
    assert operator("Bn3dApply", np.inf, 1, 0, x=3) == [-np.inf]
    assert operator("Bn3dGradApply", 1e39, 1, 1e-39, 0, dy=2, x=3) == pytest.approx([1])
    assert operator("Bn3dGradApply", 0, 0, 1e-46, 0, dy=1, x=1e30) == pytest.approx([1e-16])
    assert operator("Bn3dGradApply", 1, 0, 1e39, -1e39, dy=0, x=2) == [0]
    zero = operator("Bn3dApply", 0, -1, -0.0, x=0)
    assert zero == [0]
    assert np.signbit(zero[0])


def test_unloading_leaves_the_threads_their_code(child_environment):
    script = (
        "import _ctypes, time\n"
        "from backends import test_native\n"
        "from support import c_interface\n"
        "from bn3d.backends import library\n"
        "test_native.everything((2, 3, 32, 33, 34), c_interface.FLOAT32)\n"
        "_ctypes.dlclose(library.load().handle._handle)\n"
        "time.sleep(0.2)\n"
    )
    tests = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", script], env=child_environment, cwd=tests, check=True)


@EACH_DTYPE
@pytest.mark.parametrize("bits", [0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001])
def test_a_nan_of_any_payload_stays_one(rng, dtype, bits):
    """0x7FFFFFFF rounded to bfloat16 by its bits would be -0."""
    layer = c_interface.Layer(rng.standard_normal((2, 3, 4, 5, 6)), dtype)
    layer.gamma.view(np.uint32)[1] = bits
    for result in (layer.forward_training(), layer.gradient_training()[0],
                   layer.forward_inference(), layer.gradient_inference()[0]):  # fmt: skip
        assert np.isnan(result[:, 1]).all()
        assert np.isfinite(result[:, [0, 2]]).all()


def everything(shape, dtype):
    rng = np.random.default_rng(11)
    layer = c_interface.Layer(rng.normal(5, 1, shape), dtype)
    parts = [layer.forward_training(), layer.saved, *layer.gradient_training()]
    parts += [layer.forward_inference(), *layer.gradient_inference()]
    return b"".join(np.ascontiguousarray(part).tobytes() for part in parts)


@EACH_DTYPE
@pytest.mark.parametrize("shape", [(2, 3, 32, 33, 34), (1, 1, 64, 64, 64), (2, 70, 4, 10, 10)])
def test_bits_do_not_depend_on_threads_or_runs(shape, dtype):
    loaded = library.load()
    results = set()
    try:
        for threads in (1, 2, 3, 16, 2):
            loaded.set_threads(threads)
            results.add(everything(shape, dtype))
    finally:
        loaded.set_threads(0)
    assert len(results) == 1


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="one instruction set elsewhere")
def test_bits_do_not_depend_on_the_instruction_set(child_environment):
    script = (
        "import hashlib\n"
        "from backends import test_native\n"
        "from bn3d.backends import library\n"
        "from support import c_interface\n"
        "bits = [test_native.everything(s, d) for s in test_native.SHAPES"
        " for d in c_interface.DTYPES.values()]\n"
        "print(library.load().instruction_set, hashlib.sha256(b''.join(bits)).hexdigest())\n"
    )
    found = {}
    for wanted in ("baseline", "avx2", "avx512"):
        run = subprocess.run(
            [sys.executable, "-c", script],
            env={**child_environment, "BN3D_ISA": wanted},
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        )
        name, digest = run.stdout.split()
        found[name] = digest
    assert "baseline" in found
    assert len(set(found.values())) == 1, found


def test_no_more_threads_than_the_process_may_use():
    loaded = library.load()
    usable = len(os.sched_getaffinity(0))
    try:
        loaded.set_threads(1000)
        assert loaded.threads == usable
        loaded.set_threads(1)
        assert loaded.threads == 1
        loaded.set_threads(0)
        assert loaded.threads == usable
    finally:
        loaded.set_threads(0)


def test_the_pool_survives_a_fork():
    everything((2, 3, 32, 33, 34), c_interface.FLOAT32)
    child = os.fork()
    if child == 0:
        everything((2, 3, 32, 33, 34), c_interface.FLOAT32)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_momentum_at_its_ends(rng, momentum):
    layer = c_interface.Layer(rng.standard_normal((2, 3, 4, 5, 6)), momentum=momentum)
    old = layer.moving_mean.copy()
    layer.forward_training()
    wanted = old if momentum else layer.saved[0]
    np.testing.assert_allclose(layer.moving_mean, wanted, rtol=1e-6)
