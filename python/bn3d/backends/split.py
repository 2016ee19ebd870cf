"""Training, inference and both gradients from the four operators of `bn3d.operators`.

    forward:   reduce(x, shift), then apply(x, mean, multiplier, offset)
    backward:  grad_reduce(dy, x, mean), then grad_apply(dy, x, mean, a, b, c)

A batch without values calls none of them, and takes part in what a group computes: the operators
of Ascend refuse it, and MindSpore does nothing in a compiled function that gets it. Volumes that
the operators fail at are computed with those of `bn3d.backends.composed`; see
`bn3d.backends.fallback`.

Between them is float32 arithmetic over (C,) vectors with MindSpore's operators. Nothing is
differentiated through: that would read the volumes more often.

The mean of a batch is `mean + rest`, two float32 vectors. One alone would be off by up to
6e-8 * |mean|, at mean/std = 1e4 by 6e-4 standard deviations. x - mean is exact near the mean,
and the rest is folded into the vectors of the second operator.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import NamedTuple

import mindspore as ms
from mindspore import Tensor, nn, ops

from bn3d.backends import composed, fallback
from bn3d.backends.backend import Group, Operators
from bn3d.backends.channels import channel_mean, is_empty, values_per_channel
from bn3d.backends.fallback import NO_VALUES
from bn3d.backends.second_order import (
    gradient_of_gradient_inference,
    gradient_of_gradient_training_by,
)
from bn3d.mindspore_private.execution import is_compiling, is_recording
from bn3d.mindspore_private.precision import unmixed

__all__ = ["REDUCTIONS_VARIABLE", "Split", "build", "settings"]

REDUCTIONS_VARIABLE = "BN3D_REDUCTIONS"

_SMALLEST_NORMAL = 2.0**-126  # of float32; what is smaller may count as 0

# A primitive: MindSpore 2.10 loses a Python function that two passes of a compiled gradient call,
# a `construct` and its `bprop`, or a `bprop` and that one's `bprop`.
_zeros_like = ops.ZerosLike()


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
    dtypes: Collection[str] | None = None,
    probed: bool = False,
) -> Split:
    """A backend's `forward_training` and `forward_inference` from the four operators.

    Args:
        operators: volumes in, float32 (C,) vectors in and out.
        group: asked once in each direction, after the last reduction. Default: this device
            alone.
        compiled: wraps what calls the operators in PyNative mode, where nothing else compiles it;
            such as `mindspore.jit`.
        dtypes: names of the dtypes of volumes that the operators take; others are computed in
            float32. Default: all.
        probed: whether the operators may fail for some volumes, so that they have to be tried.
    """
    training: Callable = _Training(operators, group)
    inference: Callable = _Inference(operators)
    of_nothing, inference_of_nothing = _Training(NO_VALUES, group), _Inference(NO_VALUES)
    others = composed.BACKEND.operators
    by_others, inference_by_others = _Training(others, group), _Inference(others)
    is_refused = fallback.build(operators) if probed else _never

    if compiled is not None:
        training = _unless_compiling(compiled, training)
        inference = _unless_compiling(compiled, inference)
    kept = None if dtypes is None else tuple(getattr(ms, name) for name in dtypes)

    def taken(x):
        return x if kept is None or x.dtype in kept else ops.cast(x, ms.float32)

    def forward_training(x, gamma, beta, moving_mean, moving_variance, settings):
        """(y,), normalised by the batch; updates the moving statistics. See `bn3d.reference`."""
        eps, momentum, reductions = settings
        volume = taken(x)
        normalize = training
        if is_empty(x.shape):
            normalize = of_nothing
        elif is_refused(x.shape, volume.dtype):
            normalize = by_others
        y, mean, rest, variance, _, count, _ = normalize(
            volume, _as_it_is(gamma), _float32(beta), _float32(moving_mean), eps, reductions
        )
        if momentum < 1:
            spare = _at_least_one(count) - 1
            # The weights are 0 where there is no value, or no second one.
            _update(moving_mean, mean + rest, (1 - momentum) * _at_most_one(count))
            unbiased = variance * (count / _at_least_one(spare))
            _update(moving_variance, unbiased, (1 - momentum) * _at_most_one(spare))
        return (ops.cast(y, x.dtype),)

    def forward_inference(x, gamma, beta, moving_mean, moving_variance, settings):
        """y, normalised by the moving statistics. See `bn3d.reference`."""
        mean, variance = _as_it_is(moving_mean), _as_it_is(moving_variance)
        volume = taken(x)
        normalize = inference
        if is_empty(x.shape):
            normalize = inference_of_nothing
        elif is_refused(x.shape, volume.dtype):
            normalize = inference_by_others
        y = normalize(volume, _as_it_is(gamma), _float32(beta), mean, variance, settings[0])
        return ops.cast(y, x.dtype)

    return Split(unmixed(forward_training), unmixed(forward_inference))


def _as_it_is(parameter):
    """In float32; a copy where PyNative mode remembers it for a gradient, by reference, and an
    assignment to the parameter in between would change it.
    """
    return _float32(ops.concat((parameter,)) if is_recording() else parameter)


@ops.constexpr(check=False)
def _never(shape, dtype):
    return False


def _unless_compiling(compiled, cell):
    def call(*arguments):
        return cell(*arguments)

    wrapped = compiled(call)

    def either(*arguments):
        return cell(*arguments) if is_compiling() else wrapped(*arguments)

    return either


def _update(moving, batch, weight):
    new = _float32(moving) * (1 - weight) + batch * weight
    ops.assign(moving, ops.cast(ops.stop_gradient(new), moving.dtype))


# The passes as cells, since that is how MindSpore takes a `bprop`. Vectors are float32 (C,).


class _Training(nn.Cell):
    """Forward pass in training: x is (N, C, D, H, W), eps a number, `reductions` as in
    `settings`, and `shift` may be anything: the nearer to the mean, the better.
    """

    def __init__(self, operators: Operators, group: Group | None) -> None:
        super().__init__(auto_prefix=False)
        self.operator_reduce = operators.reduce
        self.operator_apply = operators.apply
        self.group = group
        self.gradient = _TrainingGradient(operators, group)

    def construct(self, x, gamma, beta, shift, eps, reductions):
        """(y, mean, rest, biased variance, rstd, count, 1/count); rstd is 1/sqrt(variance + eps),
        and 0 where that may be infinite.
        """
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
        squared = variance + eps
        rstd = ops.rsqrt(squared)
        if eps < _SMALLEST_NORMAL:
            rstd = ops.select(squared < _SMALLEST_NORMAL, _zeros_like(rstd), rstd)
        multiplier = gamma * rstd
        y = self.operator_apply(x, mean, multiplier, beta - rest * multiplier)
        return y, mean, rest, variance, rstd, count, scale

    def bprop(self, x, gamma, beta, shift, eps, reductions, out, dout):
        """Gradients of y alone: the other outputs are never differentiated."""
        _, mean, rest, _, rstd, _, scale = out
        dx, dgamma, dbeta = self.gradient(dout[0], x, gamma, mean, rest, rstd, scale, eps)
        return dx, dgamma, dbeta, _zeros_like(shift), 0.0, 0


class _TrainingGradient(nn.Cell):
    """(dx, dgamma, dbeta) of `_Training`; the last two are sums over this device alone."""

    def __init__(self, operators: Operators, group: Group | None) -> None:
        super().__init__(auto_prefix=False)
        self.operator_grad_reduce = operators.grad_reduce
        self.operator_grad_apply = operators.grad_apply
        self.group = group
        self.second_order = gradient_of_gradient_training_by(
            channel_mean if group is None else group.channel_mean
        )

    def construct(self, dy, x, gamma, mean, rest, rstd, scale, eps):
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

    def bprop(self, dy, x, gamma, mean, rest, rstd, scale, eps, out, dout):
        wide_eps = _zeros_like(gamma) + eps
        d_dy, d_x, d_gamma = self.second_order(dy, x, gamma, wide_eps, dout)
        # The statistics are functions of x: d_x has their part already.
        zeros = _zeros_like(gamma)
        return d_dy, d_x, d_gamma, zeros, zeros, zeros, scale * 0, 0.0


class _Inference(nn.Cell):
    """Forward pass in inference: y."""

    def __init__(self, operators: Operators) -> None:
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

    def __init__(self, operators: Operators) -> None:
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


def _at_least_one(count: float | Tensor) -> float | Tensor:
    if isinstance(count, Tensor):
        return ops.maximum(count, 1)
    return count if count > 1 else 1


def _at_most_one(count: float | Tensor) -> float | Tensor:
    if isinstance(count, Tensor):
        return ops.minimum(count, 1)
    return count if count < 1 else 1


def _float32(vector: Tensor) -> Tensor:
    return ops.cast(vector, ms.float32)
