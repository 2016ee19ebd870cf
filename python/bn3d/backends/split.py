"""Training, inference and both gradients from the four operators of `bn3d.operators`.

    forward:   reduce(x, shift), then apply(x, mean, multiplier, offset)
    backward:  grad_reduce(dy, x, mean), then grad_apply(dy, x, mean, a, b, c)

Between them is float32 arithmetic over (C,) vectors with MindSpore's operators. Nothing is
differentiated through: that would read the volumes more often.

The mean of a batch is `mean + rest`, two float32 vectors. One alone would be off by up to
6e-8 * |mean|, at mean/std = 1e4 by 6e-4 standard deviations. x - mean is exact near the mean,
and the rest is folded into the vectors of the second operator.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple, Protocol

import mindspore as ms
from mindspore import nn, ops
from mindspore.ops.functional import isconstant

from bn3d.backends.second_order import (
    gradient_of_gradient_inference,
    gradient_of_gradient_training,
)

__all__ = ["REDUCTIONS_VARIABLE", "Operators", "Split", "build", "settings"]

REDUCTIONS_VARIABLE = "BN3D_REDUCTIONS"


# A primitive: MindSpore 2.10 loses a Python function that a bprop and another pass both call.
_zeros_like = ops.ZerosLike()


class Operators(Protocol):
    """A provider of the four operators, such as `bn3d.backends.native`."""

    reduce: Callable
    apply: Callable
    grad_reduce: Callable
    grad_apply: Callable


class Split(NamedTuple):
    """The two functions of a backend, see `bn3d.backends`."""

    forward_training: Callable
    forward_inference: Callable


def settings(eps: float, momentum: float) -> tuple[float, float, int]:
    """Return (eps, momentum, reductions) as the functions of `build` take them.

    The environment variable BN3D_REDUCTIONS says how often a training step reduces a batch:
    1 or 2, the default. Once is exact as long as the moving mean, the shift, is within some
    standard deviations of the batch's mean. The second time is shifted by the mean of the
    first and exact always; it reads the volume once more.

    Raises:
        ValueError: BN3D_REDUCTIONS has another value.
    """
    reductions = os.environ.get(REDUCTIONS_VARIABLE, "") or "2"
    if reductions not in ("1", "2"):
        raise ValueError(f"{REDUCTIONS_VARIABLE} must be 1 or 2, got {reductions!r}")
    return eps, momentum, int(reductions)


def build(
    operators: Operators,
    combine: Callable | None = None,
    combine_gradients: Callable | None = None,
    compiled: Callable[[Callable], Callable] = lambda function: function,
) -> Split:
    """A backend's `forward_training` and `forward_inference` from the four operators.

    Args:
        operators: volumes in, float32 (C,) vectors in and out.
        combine: adds up over devices: (sums, count) -> (sums, count). The sums are a tuple of two
            float32 (C,), the count is the number of values a channel: a number, or a float32
            tensor (1,). Called after each reduction, of which there are two by default; all
            devices have the same shift then. Default: this device alone.
        combine_gradients: the same in the backward pass: sums -> sums. No Python function may be
            called by both, for MindSpore 2.10 loses it; primitives and Cells may.
        compiled: wraps the functions that call the operators, such as `mindspore.jit`.
    """
    training = _Training(operators, combine, combine_gradients)
    inference = _Inference(operators)

    @compiled
    def normalize_by_batch(x, gamma, beta, shift, eps, reductions):
        return training(x, gamma, beta, shift, eps, reductions)

    @compiled
    def normalize_by_constants(x, gamma, beta, mean, variance, eps):
        return inference(x, gamma, beta, mean, variance, eps)

    def forward_training(x, gamma, beta, moving_mean, moving_variance, settings):
        """(y,), normalised by the batch; updates the moving statistics. See `bn3d.reference`."""
        eps, momentum, reductions = settings
        y, mean, rest, variance, count = normalize_by_batch(
            x, _float32(gamma), _float32(beta), _float32(moving_mean), eps, reductions
        )
        if momentum < 1:
            spare = _at_least_one(count) - 1
            # Weights of 0 where there is no value, and where there is no second one.
            _update(moving_mean, mean + rest, (1 - momentum) * _at_most_one(count))
            unbiased = variance * (count / _at_least_one(spare))
            _update(moving_variance, unbiased, (1 - momentum) * _at_most_one(spare))
        return (y,)

    def forward_inference(x, gamma, beta, moving_mean, moving_variance, settings):
        """y, normalised by the moving statistics. See `bn3d.reference`."""
        mean, variance = _float32(moving_mean), _float32(moving_variance)
        return normalize_by_constants(
            x, _float32(gamma), _float32(beta), mean, variance, settings[0]
        )

    return Split(forward_training, forward_inference)


class _Training(nn.Cell):
    """Forward pass in training; a Cell because that is how MindSpore takes a `bprop`."""

    def __init__(self, operators, combine, combine_gradients):
        super().__init__(auto_prefix=False)
        self.operator_reduce = operators.reduce
        self.operator_apply = operators.apply
        self.combine = combine or _this_device
        self.gradient = _TrainingGradient(operators, combine_gradients)

    def construct(self, x, gamma, beta, shift, eps, reductions):
        """(y, mean, rest, biased variance, count)."""
        for _ in range(reductions - 1):
            shift = shift + self.means(x, shift)[0]
        first, second, count = self.means(x, shift)
        variance = ops.relu(second - first * first)
        mean = shift + first
        rest = first - (mean - shift)
        multiplier = gamma * ops.rsqrt(variance + eps)
        y = self.operator_apply(x, mean, multiplier, beta - rest * multiplier)
        return y, mean, rest, variance, count

    def means(self, x, shift):
        """Means of x - shift and of its square, and their count."""
        (first, second), count = self.combine(self.operator_reduce(x, shift), _count(x))
        scale = 1 / _at_least_one(count)
        return first * scale, second * scale, count

    def bprop(self, x, gamma, beta, shift, eps, reductions, out, dout):
        """Gradients of y alone: nobody derives by the others."""
        _, mean, rest, variance, count = out
        dx, dgamma, dbeta = self.gradient(dout[0], x, gamma, mean, rest, variance, count, eps)
        return dx, dgamma, dbeta, _zeros_like(shift), 0.0, 0


class _TrainingGradient(nn.Cell):
    """(dx, dgamma, dbeta) of `_Training`; the last two are sums over this device alone."""

    def __init__(self, operators, combine_gradients):
        super().__init__(auto_prefix=False)
        self.operator_grad_reduce = operators.grad_reduce
        self.operator_grad_apply = operators.grad_apply
        self.combine = combine_gradients or _this_device_gradients

    def construct(self, dy, x, gamma, mean, rest, variance, count, eps):
        rstd = ops.rsqrt(variance + eps)
        dbeta, about_mean = self.operator_grad_reduce(dy, x, mean)
        dgamma = (about_mean - rest * dbeta) * rstd
        sum_dgamma, sum_dbeta = self.combine((dgamma, dbeta))
        a = gamma * rstd
        # An empty batch: the sums are 0 and dx has no values.
        a_scaled = a * (-1 / (count + (count == 0)))
        b = a_scaled * rstd * sum_dgamma
        c = a_scaled * sum_dbeta - b * rest
        return self.operator_grad_apply(dy, x, mean, a, b, c), dgamma, dbeta

    def bprop(self, dy, x, gamma, mean, rest, variance, count, eps, out, dout):
        wide_eps = _zeros_like(gamma) + eps
        d_dy, d_x, d_gamma = gradient_of_gradient_training(dy, x, gamma, wide_eps, dout)
        # The statistics are functions of x, and were derived as such.
        zeros = _zeros_like(gamma)
        return d_dy, d_x, d_gamma, zeros, zeros, zeros, count * 0, 0.0


class _Inference(nn.Cell):
    def __init__(self, operators):
        super().__init__(auto_prefix=False)
        self.operator_apply = operators.apply
        self.gradient = _InferenceGradient(operators)

    def construct(self, x, gamma, beta, mean, variance, eps):
        return self.operator_apply(x, mean, gamma * ops.rsqrt(variance + eps), beta)

    def bprop(self, x, gamma, beta, mean, variance, eps, out, dout):
        dx, dgamma, dbeta = self.gradient(dout, x, gamma, mean, ops.rsqrt(variance + eps))
        zeros = _zeros_like(gamma)
        return dx, dgamma, dbeta, zeros, zeros, 0.0


class _InferenceGradient(nn.Cell):
    """(dx, dgamma, dbeta) of `_Inference`."""

    def __init__(self, operators):
        super().__init__(auto_prefix=False)
        self.operator_apply = operators.apply
        self.operator_grad_reduce = operators.grad_reduce

    def construct(self, dy, x, gamma, mean, rstd):
        dbeta, about_mean = self.operator_grad_reduce(dy, x, mean)
        zeros = _zeros_like(gamma)
        return self.operator_apply(dy, zeros, gamma * rstd, zeros), about_mean * rstd, dbeta

    def bprop(self, dy, x, gamma, mean, rstd, out, dout):
        d_dy, d_x, d_gamma = gradient_of_gradient_inference(dy, x, gamma, mean, rstd, dout)
        zeros = _zeros_like(gamma)
        return d_dy, d_x, d_gamma, zeros, zeros


def _this_device(sums, count):
    return sums, count


def _this_device_gradients(sums):
    return sums


def _count(x):
    """Values a channel: a number, so that what follows from it costs no operator, or a float32
    tensor (1,) where the shape is not known before the run.
    """
    if isconstant(x.shape):
        n, _, d, h, w = x.shape
        return n * d * h * w
    sizes = _float32(ops.TensorShape()(x))
    return sizes[0:1] * ops.prod(sizes[2:])


def _at_least_one(count):
    if isinstance(count, ms.Tensor):
        return ops.maximum(count, 1)
    return count if count > 1 else 1


def _at_most_one(count):
    if isinstance(count, ms.Tensor):
        return ops.minimum(count, 1)
    return count if count < 1 else 1


def _float32(vector):
    return ops.cast(vector, ms.float32)


def _update(moving, batch, weight):
    new = _float32(moving) * (1 - weight) + batch * weight
    ops.assign(moving, ops.cast(ops.stop_gradient(new), moving.dtype))
