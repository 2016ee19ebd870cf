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
from collections.abc import Callable, Collection
from typing import NamedTuple, Protocol

import mindspore as ms
from mindspore import nn, ops
from mindspore._c_expression import MixedPrecisionType
from mindspore.ops.functional import isconstant

from bn3d.backends.composed import channel_mean
from bn3d.backends.second_order import (
    gradient_of_gradient_inference,
    gradient_of_gradient_training_by,
)
from bn3d.execution import is_compiling

__all__ = [
    "REDUCTIONS_VARIABLE",
    "Group",
    "Operators",
    "Split",
    "build",
    "settings",
    "values_per_channel",
]

REDUCTIONS_VARIABLE = "BN3D_REDUCTIONS"

# A primitive: MindSpore 2.10 loses a Python function that two passes of a compiled gradient call,
# a `construct` and its `bprop`, or a `bprop` and that one's `bprop`.
_zeros_like = ops.ZerosLike()


class Operators(Protocol):
    """A provider of the four operators, such as `bn3d.backends.native`."""

    reduce: Callable
    apply: Callable
    grad_reduce: Callable
    grad_apply: Callable


class Provided(NamedTuple):
    """The four operators by themselves."""

    reduce: Callable
    apply: Callable
    grad_reduce: Callable
    grad_apply: Callable


class Group(Protocol):
    """Devices whose batches count as one, such as `bn3d.backends.synchronised.Group`.

    Vectors are float32 (C,). `count`, the values a channel, comes as a number or a float32
    tensor (1,) and is returned as such a tensor.
    """

    def statistics(self, shift, first, second, count):
        """(shift, first, second, count) of all devices from those of each: sums of x - shift
        and of (x - shift)^2. The shifts of the devices differ; the one returned is common.
        """

    def sums(self, first, second):
        """(first, second), added up over the devices. Calls no Python function that
        `statistics` calls too, see above.
        """

    def channel_mean(self, x):
        """What `bn3d.backends.composed.channel_mean` is for one device, differentiable."""


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
    group: Group | None = None,
    compiled: Callable[[Callable], Callable] | None = None,
    dtypes: Collection | None = None,
) -> Split:
    """A backend's `forward_training` and `forward_inference` from the four operators.

    Args:
        operators: volumes in, float32 (C,) vectors in and out.
        group: asked once in each direction, after the last reduction. Default: this device
            alone.
        compiled: wraps what calls the operators, where nothing compiles it anyway, that is in
            PyNative mode; such as `mindspore.jit`.
        dtypes: those of volumes that the operators take; the others are computed in float32.
            Default: all.
    """
    training, inference = _Training(operators, group), _Inference(operators)

    def normalize_by_batch(x, gamma, beta, shift, eps, reductions):
        return training(x, gamma, beta, shift, eps, reductions)

    def normalize_by_constants(x, gamma, beta, mean, variance, eps):
        return inference(x, gamma, beta, mean, variance, eps)

    if compiled is not None:
        normalize_by_batch = _unless_compiling(compiled, normalize_by_batch)
        normalize_by_constants = _unless_compiling(compiled, normalize_by_constants)

    def taken(x):
        return x if dtypes is None or x.dtype in dtypes else ops.cast(x, ms.float32)

    def forward_training(x, gamma, beta, moving_mean, moving_variance, settings):
        """(y,), normalised by the batch; updates the moving statistics. See `bn3d.reference`."""
        eps, momentum, reductions = settings
        y, mean, rest, variance, count, _ = normalize_by_batch(
            taken(x), _float32(gamma), _float32(beta), _float32(moving_mean), eps, reductions
        )
        if momentum < 1:
            spare = _at_least_one(count) - 1
            # Weights of 0 where there is no value, and where there is no second one.
            _update(moving_mean, mean + rest, (1 - momentum) * _at_most_one(count))
            unbiased = variance * (count / _at_least_one(spare))
            _update(moving_variance, unbiased, (1 - momentum) * _at_most_one(spare))
        return (ops.cast(y, x.dtype),)

    def forward_inference(x, gamma, beta, moving_mean, moving_variance, settings):
        """y, normalised by the moving statistics. See `bn3d.reference`."""
        mean, variance = _float32(moving_mean), _float32(moving_variance)
        y = normalize_by_constants(
            taken(x), _float32(gamma), _float32(beta), mean, variance, settings[0]
        )
        return ops.cast(y, x.dtype)

    return Split(_unmixed(forward_training), _unmixed(forward_inference))


class _Unmixed(nn.Cell):
    """Calls a function outside of the caller's mixed precision."""

    def __init__(self, function):
        super().__init__(auto_prefix=False)
        self.function = function
        self.mixed_precision_type = MixedPrecisionType.NOTSET

    def construct(self, *arguments):
        return self.function(*arguments)


def _unmixed(function):
    """In PyNative mode a layer with `to_float` casts the floating inputs of all operators that it
    calls, also the float32 vectors: sums over a volume overflow in float16. Graph mode casts a
    layer's inputs alone.
    """
    unmixed = _Unmixed(function)

    def forward(x, gamma, beta, moving_mean, moving_variance, settings):
        if is_compiling():
            return function(x, gamma, beta, moving_mean, moving_variance, settings)
        return unmixed(x, gamma, beta, moving_mean, moving_variance, settings)

    return forward


class _Training(nn.Cell):
    """Forward pass in training; a Cell because that is how MindSpore takes a `bprop`."""

    def __init__(self, operators, group):
        super().__init__(auto_prefix=False)
        self.operator_reduce = operators.reduce
        self.operator_apply = operators.apply
        self.group = group
        self.gradient = _TrainingGradient(operators, group)

    def construct(self, x, gamma, beta, shift, eps, reductions):
        """(y, mean, rest, biased variance, count, 1/count)."""
        count = values_per_channel(x)
        for _ in range(reductions - 1):
            shift = shift + self.operator_reduce(x, shift)[0] * (1 / _at_least_one(count))
        first, second = self.operator_reduce(x, shift)
        if self.group is not None:
            shift, first, second, count = self.group.statistics(shift, first, second, count)
        scale = 1 / _at_least_one(count)
        first, second = first * scale, second * scale
        variance = ops.relu(second - first * first)
        mean = shift + first
        rest = first - (mean - shift)
        multiplier = gamma * ops.rsqrt(variance + eps)
        y = self.operator_apply(x, mean, multiplier, beta - rest * multiplier)
        return y, mean, rest, variance, count, scale

    def bprop(self, x, gamma, beta, shift, eps, reductions, out, dout):
        """Gradients of y alone: nobody derives by the others."""
        _, mean, rest, variance, _, scale = out
        dx, dgamma, dbeta = self.gradient(dout[0], x, gamma, mean, rest, variance, scale, eps)
        return dx, dgamma, dbeta, _zeros_like(shift), 0.0, 0


class _TrainingGradient(nn.Cell):
    """(dx, dgamma, dbeta) of `_Training`; the last two are sums over this device alone."""

    def __init__(self, operators, group):
        super().__init__(auto_prefix=False)
        self.operator_grad_reduce = operators.grad_reduce
        self.operator_grad_apply = operators.grad_apply
        self.group = group
        self.second_order = gradient_of_gradient_training_by(
            channel_mean if group is None else group.channel_mean
        )

    def construct(self, dy, x, gamma, mean, rest, variance, scale, eps):
        rstd = ops.rsqrt(variance + eps)
        dbeta, about_mean = self.operator_grad_reduce(dy, x, mean)
        dgamma = (about_mean - rest * dbeta) * rstd
        sum_dgamma, sum_dbeta = dgamma, dbeta
        if self.group is not None:
            sum_dgamma, sum_dbeta = self.group.sums(dgamma, dbeta)
        a = gamma * rstd
        a_scaled = a * -scale
        b = a_scaled * rstd * sum_dgamma
        c = a_scaled * sum_dbeta - b * rest
        return self.operator_grad_apply(dy, x, mean, a, b, c), dgamma, dbeta

    def bprop(self, dy, x, gamma, mean, rest, variance, scale, eps, out, dout):
        wide_eps = _zeros_like(gamma) + eps
        d_dy, d_x, d_gamma = self.second_order(dy, x, gamma, wide_eps, dout)
        # The statistics are functions of x, and were derived as such.
        zeros = _zeros_like(gamma)
        return d_dy, d_x, d_gamma, zeros, zeros, zeros, scale * 0, 0.0


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


def _unless_compiling(compiled, function):
    wrapped = compiled(function)

    def either(*arguments):
        return function(*arguments) if is_compiling() else wrapped(*arguments)

    return either


def values_per_channel(x):
    """N*D*H*W: a number, so that what follows from it costs no operator, or a float32
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
