"""Backend composed of MindSpore's own operators: any device, any platform, no operator of ours.

The formulas are those of `bn3d.reference`, computed in float64 on a CPU and in float32
elsewhere. MindSpore differentiates them, but for training in PyNative mode: its third derivatives
are wrong there.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, Tensor, ops

from bn3d.backends.backend import Backend, Operators
from bn3d.backends.channels import AXES, channel_mean, is_empty, normalize, per_channel
from bn3d.backends.fused import Pass, differentiable, of_training
from bn3d.mindspore_private.execution import is_recording
from bn3d.mindspore_private.functions import Function
from bn3d.mindspore_private.precision import unmixed

__all__ = ["BACKEND", "assign"]


def settings(eps: float, momentum: float) -> tuple[float, float]:
    """Return eps and momentum as the functions below take them."""
    return eps, momentum


@unmixed
def forward_training(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    moving_mean: Tensor,
    moving_variance: Tensor,
    settings: tuple[float, float],
) -> tuple[Tensor, ...]:
    """(y,), normalised by the batch; updates the moving statistics. See `bn3d.reference`."""
    if is_empty(x.shape):
        return (x,)
    if is_recording():
        return (_training(x, gamma, beta, moving_mean, moving_variance, settings),)
    return (_train(x, gamma, beta, moving_mean, moving_variance, settings)[0],)


def _train(x, gamma, beta, moving_mean, moving_variance, settings):
    """y, and mean and rstd of the batch (1, C, 1, 1, 1)."""
    eps, momentum = settings
    wide = ops.cast(x, _wide_dtype())
    normalized, mean, variance, rstd = normalize(wide, eps)
    y = normalized * per_channel(gamma, wide) + per_channel(beta, wide)

    if momentum < 1:
        count = ops.reduce_sum(ops.ones_like(wide), AXES)
        unbiased = variance.reshape(-1) * (count / ops.maximum(count - 1, ops.ones_like(count)))
        updates = (
            _update(moving_mean, mean.reshape(-1), momentum, count > 0),
            _update(moving_variance, unbiased, momentum, count > 1),
        )
        y = ops.depend(y, updates)
    return ops.cast(y, x.dtype), mean, rstd


def _train_and_save(x, gamma, *others):
    """`bn3d.backends.fused.Pass.forward`."""
    y, mean, rstd = _train(x, gamma, *others)
    eps = ops.full_like(rstd, others[-1][0])
    rows = [row.reshape(-1) for row in (mean, rstd, per_channel(gamma, rstd), eps)]
    return y, ops.stack(rows)


def _derive(dy, x, gamma, saved):
    """`bn3d.backends.fused.Pass.gradient`. x is normalised once more: in float32 the mean that is
    saved is rounded by too much where it is far from zero.
    """
    wide, dy = ops.cast(x, saved.dtype), ops.cast(dy, saved.dtype)
    _, _, gamma_then, eps = [per_channel(row, wide) for row in ops.unstack(saved)]
    h, _, _, rstd = normalize(wide, eps)
    dx = gamma_then * rstd * (dy - channel_mean(dy) - h * channel_mean(dy * h))
    dgamma, dbeta = ops.sum(dy * h, AXES), ops.sum(dy, AXES)
    return (
        ops.cast(dx, x.dtype),
        ops.cast(dgamma, gamma.dtype),
        ops.cast(dbeta, gamma.dtype),
        saved,
    )


if Function is not None:
    _training = differentiable(Pass(_train_and_save, _derive, of_training))
else:  # third derivatives are wrong then

    def _training(*inputs):
        return _train(*inputs)[0]


@unmixed
def forward_inference(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    moving_mean: Tensor,
    moving_variance: Tensor,
    settings: tuple[float, float],
) -> Tensor:
    """y, normalised by the moving statistics. See `bn3d.reference`."""
    if is_empty(x.shape):
        return x
    wide = ops.cast(x, _wide_dtype())
    multiplier = per_channel(gamma, wide) * ops.rsqrt(
        per_channel(moving_variance, wide) + settings[0]
    )
    y = (wide - per_channel(moving_mean, wide)) * multiplier + per_channel(beta, wide)
    return ops.cast(y, x.dtype)


def _operators() -> Operators:
    """The four operators. Each call makes functions anew: MindSpore 2.10 loses one that a pass and
    its `bprop` both call, where PyNative mode takes the gradient of a function of `mindspore.jit`.
    """

    def vector(values, like):
        return ops.cast(ops.reshape(values, (1, -1, 1, 1, 1)), like.dtype)

    def centered_by(x, shift):
        wide = ops.cast(x, _wide_dtype())
        return wide - vector(shift, wide)

    def channel_sum(x):
        return ops.cast(ops.reduce_sum(x, AXES), ms.float32)

    def reduce(x, shift):
        centered = centered_by(x, shift)
        return channel_sum(centered), channel_sum(ops.square(centered))

    def apply(x, mean, multiplier, offset):
        centered = centered_by(x, mean)
        y = centered * vector(multiplier, centered) + vector(offset, centered)
        return ops.cast(y, x.dtype)

    def grad_reduce(dy, x, mean):
        centered = centered_by(x, mean)
        wide = ops.cast(dy, centered.dtype)
        return channel_sum(wide), channel_sum(wide * centered)

    def grad_apply(dy, x, mean, a, b, c):
        centered = centered_by(x, mean)
        dx = vector(a, centered) * ops.cast(dy, centered.dtype)
        dx = dx + vector(b, centered) * centered + vector(c, centered)
        return ops.cast(dx, x.dtype)

    return Operators(reduce, apply, grad_reduce, grad_apply)


_forward, _backward = _operators(), _operators()


@ops.constexpr
def _wide_dtype():
    return ms.float64 if ms.get_context("device_target") == "CPU" else ms.float32


def _update(moving, batch, momentum, defined):
    old = ops.cast(moving, batch.dtype)
    new = momentum * old + (1 - momentum) * batch
    new = ops.stop_gradient(ops.select(defined, new, old))
    return assign(moving, new)


def assign(parameter: Parameter, value: Tensor) -> Tensor:
    """Give a parameter a value of any floating dtype. In graphs the output has to depend on what
    this returns, or they leave out `copy_`.
    """
    value = ops.cast(value, parameter.dtype)
    if parameter.dtype == ms.bfloat16:
        return parameter.copy_(value)  # MindSpore's `Assign` has no bfloat16 on a CPU
    return ops.assign(parameter, value)


BACKEND = Backend(
    "composed",
    settings,
    forward_training,
    forward_inference,
    Operators(*_forward[:2], *_backward[2:]),
)
