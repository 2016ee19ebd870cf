"""A channel without variance, and no eps: beta while training, as in PyTorch's operator."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, ops

import bn3d
from backends import standin
from bn3d import reference

GAMMA, BETA = np.array([2.0, 3.0], np.float32), np.array([0.25, -1.5], np.float32)
MOVING = np.array([3.0, 1.0], np.float32), np.array([0.0, 4.0], np.float32)


def volumes():
    """The first channel is constant, at a value whose sums are not exact."""
    rng = np.random.default_rng(3)
    x, dy = rng.normal(1, 2, (2, 3, 2, 2, 2, 7)).astype(np.float32)
    x[:, 0] = 0.1
    return x, dy


def by_torch(x, dy, training):
    """(y, dx, dgamma, dbeta) of the operator; torch.nn.functional refuses eps 0 in training."""
    torch = pytest.importorskip("torch")
    tensors = [torch.tensor(a, dtype=torch.float64) for a in (x, GAMMA, BETA)]
    for tensor in tensors:
        tensor.requires_grad_()
    moving = [torch.tensor(a, dtype=torch.float64) for a in MOVING]
    y = torch.batch_norm(*tensors, *moving, training, 0.1, 0.0, False)
    y.backward(torch.tensor(dy, dtype=torch.float64))
    return [a.detach().numpy() for a in (y, *(t.grad for t in tensors))]


def by_the_judge(x, dy, training):
    if training:
        y, mean, variance, *_ = reference.forward_training(x, GAMMA, BETA, *MOVING, 0.0)
        return y, *reference.gradient_training(dy, x, GAMMA, mean, variance, 0.0)
    y = reference.forward_inference(x, GAMMA, BETA, *MOVING, 0.0)
    return y, *reference.gradient_inference(dy, x, GAMMA, *MOVING, 0.0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("training", [True, False])
def test_the_judge_is_torch(training):
    """A moving variance of 0 gives values that are not finite there as well."""
    x, dy = volumes()
    if training:
        x[:, 0] = 3  # PyTorch computes no exact mean of 0.1
    with np.errstate(invalid="ignore"):
        results = by_the_judge(x, dy, training)
    for got, want in zip(results, by_torch(x, dy, training), strict=True):
        finite = np.isfinite(want)
        np.testing.assert_array_equal(np.isfinite(got), finite)
        np.testing.assert_allclose(got[finite], want[finite], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_without_eps(mode, way, training):
    x, dy = volumes()
    arguments = dict(zip(["gamma_init", "beta_init"], map(Tensor, (GAMMA, BETA)), strict=True))
    moving = dict(zip(["moving_mean_init", "moving_var_init"], map(Tensor, MOVING), strict=True))
    layer = bn3d.BatchNorm3d(2, eps=0.0, **arguments, **moving).set_train(training)
    y, ((dx,), (dgamma, dbeta)) = standin.Gradient(layer)(Tensor(x), Tensor(dy))
    results = [a.asnumpy() for a in (y, dx, dgamma, dbeta)]
    with np.errstate(invalid="ignore"):
        wanted = by_the_judge(x, dy, training)
    for got, want in zip(results, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    if training:
        y, dx, dgamma, _ = results
        assert (y[:, 0] == BETA[0]).all() and (dx[:, 0] == 0).all() and dgamma[0] == 0
        assert layer.bn2d.moving_variance.asnumpy()[0] == 0


@pytest.mark.parametrize("eps", [5e-324, 1e-300, 1e-78, 1e-40])
def test_an_eps_that_is_hardly_one(mode, way, eps):
    """1/sqrt(eps) is infinite in float32, or eps counts as 0 there."""
    x, dy = volumes()
    layer = bn3d.BatchNorm3d(2, eps=eps, beta_init=Tensor(BETA)).set_train()
    y, ((dx,), _) = standin.Gradient(layer)(Tensor(x), Tensor(dy))
    assert (y.asnumpy()[:, 0] == BETA[0]).all()
    assert np.isfinite(dx.asnumpy()[:, 1]).all()


def test_second_derivatives_without_eps(way):
    if way == "ascend":
        pytest.skip("MindSpore has no second derivatives of a function that it compiled")
    x, dy = volumes()
    layer = bn3d.BatchNorm3d(2, eps=0.0, gamma_init=Tensor(GAMMA)).set_train()

    def loss(x):
        return ops.sin(layer(x) * Tensor(dy)).sum()

    def penalty(x):
        return ops.square(ms.grad(loss)(x)).sum()

    d_x = ms.grad(penalty)(Tensor(x)).asnumpy()
    assert (d_x[:, 0] == 0).all()
    assert np.isfinite(d_x).all() and np.abs(d_x[:, 1]).max() > 0
