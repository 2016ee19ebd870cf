"""The passes of `bn3d.backends.split` as cells, since that is how MindSpore takes a `bprop`.

All vectors are float32 (C,).
"""

from __future__ import annotations

from typing import Protocol

import mindspore as ms
from mindspore import Tensor, nn, ops

from bn3d.backends.backend import Operators
from bn3d.backends.composed import channel_mean
from bn3d.backends.second_order import (
    gradient_of_gradient_inference,
    gradient_of_gradient_training_by,
)
from bn3d.mindspore_private.execution import is_constant

__all__ = [
    "NO_VALUES",
    "Group",
    "Inference",
    "InferenceGradient",
    "Training",
    "TrainingGradient",
    "at_least_one",
    "at_most_one",
    "float32",
    "values_per_channel",
]

# A primitive: MindSpore 2.10 loses a Python function that two passes of a compiled gradient call,
# a `construct` and its `bprop`, or a `bprop` and that one's `bprop`.
_zeros_like = ops.ZerosLike()
_depend = ops.Depend()

_SMALLEST_NORMAL = 2.0**-126  # of float32; what is smaller may count as 0


def _no_sums(x, shift):
    return _zeros_like(shift), _zeros_like(shift)


# A graph leaves out what no result depends on. The collectives of this device would be missing
# in the group, so what comes of them is passed through.


def _no_volume(x, mean, multiplier, offset):
    return _depend(x, offset)


def _no_gradient_sums(dy, x, mean):
    return _zeros_like(mean), _zeros_like(mean)


def _no_gradient(dy, x, mean, a, b, c):
    return _depend(dy, c)


# The operators for a batch without values.
NO_VALUES = Operators(_no_sums, _no_volume, _no_gradient_sums, _no_gradient)


class Group(Protocol):
    """Devices whose batches count as one, such as `bn3d.backends.synchronised.Group`.

    Vectors are float32 (C,). `count`, the values a channel, comes as a number or a float32
    tensor (1,) and is returned as such a tensor.
    """

    def statistics(
        self, shift: Tensor, first: Tensor, second: Tensor, count: float | Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(shift, first, second, count) of all devices from those of each: sums of x - shift
        and of (x - shift)^2. The shifts of the devices differ; the one returned is common.
        """

    def sums(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """(first, second), added up over the devices. Calls no Python function that
        `statistics` calls too, see above.
        """

    def channel_mean(self, x: Tensor) -> Tensor:
        """What `bn3d.backends.composed.channel_mean` is for one device, differentiable."""


class Training(nn.Cell):
    """Forward pass in training: x is (N, C, D, H, W), eps a number, `reductions` as in
    `bn3d.backends.split.settings`, and `shift` may be anything: the nearer to the mean the better.
    """

    def __init__(self, operators: Operators, group: Group | None) -> None:
        super().__init__(auto_prefix=False)
        self.operator_reduce = operators.reduce
        self.operator_apply = operators.apply
        self.group = group
        self.gradient = TrainingGradient(operators, group)

    def construct(
        self,
        x: Tensor,
        gamma: Tensor,
        beta: Tensor,
        shift: Tensor,
        eps: float,
        reductions: int,
    ) -> tuple:
        """(y, mean, rest, biased variance, rstd, count, 1/count); rstd is 1/sqrt(variance + eps),
        and 0 where that may be infinite.
        """
        count = values_per_channel(x)
        for _ in range(reductions - 1):
            shift = shift + self.operator_reduce(x, shift)[0] * (1 / at_least_one(count))
        first, second = self.operator_reduce(x, shift)
        if self.group is not None:
            shift, first, second, count = self.group.statistics(shift, first, second, count)
        scale = 1 / at_least_one(count)
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
        """Gradients of y alone: nobody derives by the others."""
        _, mean, rest, _, rstd, _, scale = out
        dx, dgamma, dbeta = self.gradient(dout[0], x, gamma, mean, rest, rstd, scale, eps)
        return dx, dgamma, dbeta, _zeros_like(shift), 0.0, 0


class TrainingGradient(nn.Cell):
    """(dx, dgamma, dbeta) of `Training`; the last two are sums over this device alone."""

    def __init__(self, operators: Operators, group: Group | None) -> None:
        super().__init__(auto_prefix=False)
        self.operator_grad_reduce = operators.grad_reduce
        self.operator_grad_apply = operators.grad_apply
        self.group = group
        self.second_order = gradient_of_gradient_training_by(
            channel_mean if group is None else group.channel_mean
        )

    def construct(
        self,
        dy: Tensor,
        x: Tensor,
        gamma: Tensor,
        mean: Tensor,
        rest: Tensor,
        rstd: Tensor,
        scale: float | Tensor,
        eps: float,
    ) -> tuple:
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
        # The statistics are functions of x, and were derived as such.
        zeros = _zeros_like(gamma)
        return d_dy, d_x, d_gamma, zeros, zeros, zeros, scale * 0, 0.0


class Inference(nn.Cell):
    """Forward pass in inference: y."""

    def __init__(self, operators: Operators) -> None:
        super().__init__(auto_prefix=False)
        self.operator_apply = operators.apply
        self.gradient = InferenceGradient(operators)

    def construct(
        self,
        x: Tensor,
        gamma: Tensor,
        beta: Tensor,
        mean: Tensor,
        variance: Tensor,
        eps: float,
    ) -> Tensor:
        return self.operator_apply(x, mean, gamma * ops.rsqrt(variance + eps), beta)

    def bprop(self, x, gamma, beta, mean, variance, eps, out, dout):
        dx, dgamma, dbeta = self.gradient(dout, x, gamma, mean, ops.rsqrt(variance + eps))
        zeros = _zeros_like(gamma)
        return dx, dgamma, dbeta, zeros, zeros, 0.0


class InferenceGradient(nn.Cell):
    """(dx, dgamma, dbeta) of `Inference`."""

    def __init__(self, operators: Operators) -> None:
        super().__init__(auto_prefix=False)
        self.operator_apply = operators.apply
        self.operator_grad_reduce = operators.grad_reduce

    def construct(self, dy: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, rstd: Tensor) -> tuple:
        dbeta, about_mean = self.operator_grad_reduce(dy, x, mean)
        zeros = _zeros_like(gamma)
        return self.operator_apply(dy, zeros, gamma * rstd, zeros), about_mean * rstd, dbeta

    def bprop(self, dy, x, gamma, mean, rstd, out, dout):
        d_dy, d_x, d_gamma = gradient_of_gradient_inference(dy, x, gamma, mean, rstd, dout)
        zeros = _zeros_like(gamma)
        return d_dy, d_x, d_gamma, zeros, zeros


def values_per_channel(x: Tensor) -> int | Tensor:
    """N*D*H*W: a number, so that what follows from it costs no operator, or a float32
    tensor (1,) where the shape is not known before the run.
    """
    if is_constant(x.shape):
        n, _, d, h, w = x.shape
        return n * d * h * w
    sizes = float32(ops.TensorShape()(x))
    return sizes[0:1] * ops.prod(sizes[2:])


def at_least_one(count: float | Tensor) -> float | Tensor:
    if isinstance(count, Tensor):
        return ops.maximum(count, 1)
    return count if count > 1 else 1


def at_most_one(count: float | Tensor) -> float | Tensor:
    if isinstance(count, Tensor):
        return ops.minimum(count, 1)
    return count if count < 1 else 1


def float32(vector: Tensor) -> Tensor:
    return ops.cast(vector, ms.float32)
