"""Derivatives of a backend whose operators are fused.

Graph mode takes the operators' `bprop`. PyNative mode takes a `Function` around them: there
MindSpore records and replays a `bprop` as a network of its own, which costs as much as a kernel.
The gradients have derivatives as well, so second ones are right in either mode.

A forward pass hands `saved` on to its gradient, which takes the values of gamma and of the
statistics from there: MindSpore keeps parameters by reference, and an optimizer, an assignment or
another training step may have changed them in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import mindspore as ms
from mindspore import Tensor, ops

from bn3d.backends.second_order import (
    gradient_of_gradient_inference,
    gradient_of_gradient_training,
)
from bn3d.mindspore_private.functions import Function
from bn3d.mindspore_private.precision import unmixed_call

__all__ = [
    "Pass",
    "bprop_of_forward",
    "differentiable",
    "inference_gradient_bprop",
    "of_inference",
    "of_training",
    "training_gradient_bprop",
]


class Pass(NamedTuple):
    """Training or inference: an operator and its gradient. `saved` is `statistics` in whatever
    form they agree on; `statistics` (4, C) are wide: mean, 1/sqrt(variance + eps), gamma, eps.

    Attributes:
        forward: (x, gamma, beta, moving_mean, moving_variance, settings) -> (y, saved); in
            training it updates the moving statistics.
        gradient: (dy, x, gamma, saved) -> (dx, dgamma, dbeta, statistics); gamma says the dtype
            of dgamma and dbeta, and is not read.
        gradient_of_gradient: (dy, x, gamma, statistics, (d_dx, d_dgamma, d_dbeta)) -> gradients
            towards (dy, x, gamma), composed of MindSpore's operators.
    """

    forward: Callable
    gradient: Callable
    gradient_of_gradient: Callable


def of_training(
    dy: Tensor, x: Tensor, gamma: Tensor, statistics: Tensor, douts: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """`Pass.gradient_of_gradient`. Mean and rstd are functions of x, and are derived as such."""
    _, _, _, eps = ops.unstack(statistics)
    return gradient_of_gradient_training(dy, x, gamma, eps, douts)


def of_inference(
    dy: Tensor, x: Tensor, gamma: Tensor, statistics: Tensor, douts: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """`Pass.gradient_of_gradient`."""
    mean, rstd, _, _ = ops.unstack(statistics)
    return gradient_of_gradient_inference(dy, x, gamma, mean, rstd, douts)


def differentiable(operators: Pass) -> Callable:
    """`forward` -> y, which PyNative mode can derive twice.

    Raises:
        RuntimeError: this MindSpore has no `Function`.
    """
    if Function is None:
        raise RuntimeError("this MindSpore has no mindspore.common._Function")

    class GammaThen(Function):
        """gamma as the forward pass had it; a gradient with respect to it is one of gamma."""

        @staticmethod
        def forward(ctx, gamma, statistics):
            _, _, then, _ = ops.unstack(statistics)
            return ops.cast(then, gamma.dtype)

        @staticmethod
        def backward(ctx, dout):
            return dout, None

    class Gradient(Function):
        @staticmethod
        def forward(ctx, dy, x, gamma, saved):
            *gradients, statistics = operators.gradient(dy, x, gamma, saved)
            ctx.save_for_backward(dy, x, gamma, statistics)
            return tuple(gradients)

        @staticmethod
        def backward(ctx, *douts):
            dy, x, gamma, statistics = ctx.saved_tensors
            gamma = GammaThen.apply(gamma, statistics)
            return (*operators.gradient_of_gradient(dy, x, gamma, statistics, douts), None)

    class Forward(Function):
        @staticmethod
        def forward(ctx, x, gamma, *others):
            y, saved = operators.forward(x, gamma, *others)
            ctx.save_for_backward(x, gamma, others[0], saved)
            return y

        @staticmethod
        def backward(ctx, dy):
            x, gamma, beta, saved = ctx.saved_tensors
            like = _of_either_dtype(gamma, beta)
            dx, dgamma, dbeta = Gradient.apply(dy, _cast(x, dy.dtype), like, saved)
            dgamma, dbeta = _cast(dgamma, gamma.dtype), _cast(dbeta, beta.dtype)
            return _cast(dx, x.dtype), dgamma, dbeta, None, None, None

    def apply(x, gamma, beta, *others):
        return Forward.apply(x, _of_its_dtype(gamma), _of_its_dtype(beta), *others)

    return apply


def _of_its_dtype(vector):
    """A gradient towards a Parameter has the dtype that it was built with, which `Cell.to` or
    `set_dtype` may have changed since; one towards what an operator returns is right. Nearly all
    are built in float32 and stay in it, and need no further operator.
    """
    return vector if vector.dtype == ms.float32 else _times_1(vector)


_times_1 = unmixed_call(lambda vector: vector * 1)


def _of_either_dtype(gamma, beta):
    """Gamma in a dtype that holds the gradients of both."""
    if gamma.dtype == beta.dtype:
        return gamma
    is_double = ms.float64 in (gamma.dtype, beta.dtype)
    return ops.cast(gamma, ms.float64 if is_double else ms.float32)


def _cast(x, dtype):
    """In PyNative mode mixed precision casts what an operator gets, so y and dy can have another
    dtype than the layer's input.
    """
    return x if x.dtype == dtype else ops.cast(x, dtype)


def bprop_of_forward(gradient: Callable) -> Callable:
    """The `bprop` of `Pass.forward` by `Pass.gradient`."""

    def bprop(x, gamma, beta, moving_mean, moving_variance, settings, out, dout):
        like = _of_either_dtype(gamma, beta)
        dx, dgamma, dbeta, _ = gradient(dout[0], x, like, out[1])
        dgamma, dbeta = _cast(dgamma, gamma.dtype), _cast(dbeta, beta.dtype)
        return (dx, dgamma, dbeta, *_zeros_like(moving_mean, moving_variance, settings))

    return bprop


def training_gradient_bprop(
    dy: Tensor,
    x: Tensor,
    gamma: Tensor,
    saved: Tensor,
    out: tuple[Tensor, ...],
    dout: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    """The `bprop` of `Pass.gradient` in training."""
    return (*of_training(dy, x, gamma, out[3], dout), *_zeros_like(saved))


def inference_gradient_bprop(
    dy: Tensor,
    x: Tensor,
    gamma: Tensor,
    saved: Tensor,
    out: tuple[Tensor, ...],
    dout: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    """The `bprop` of `Pass.gradient` in inference."""
    return (*of_inference(dy, x, gamma, out[3], dout), *_zeros_like(saved))


def _zeros_like(*tensors):
    return tuple([ops.zeros_like(tensor) for tensor in tensors])
