"""Derivatives of a backend whose operators are fused.

Graph mode takes the operators' `bprop`. PyNative mode takes a `Function` around them: there
MindSpore records and replays a `bprop` as a network of its own, which costs as much as a kernel.
The gradients have derivatives as well, so second ones are right in either mode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from mindspore import Tensor, ops

from bn3d.backends.second_order import (
    gradient_of_gradient_inference,
    gradient_of_gradient_training,
)
from bn3d.backends.snapshots import copies
from bn3d.mindspore_private.functions import Function

__all__ = [
    "Fused",
    "bprop_of_inference",
    "bprop_of_training",
    "differentiable",
    "inference_gradient_bprop",
    "training_gradient_bprop",
]


class Fused(NamedTuple):
    """Four operators. `saved` is what the gradient of a training step needs of its forward pass,
    in whatever form they agree on; eps and rstd are wide vectors (C,).

    Attributes:
        forward_training: (x, gamma, beta, moving_mean, moving_variance, settings) -> (y, saved);
            updates the moving statistics.
        gradient_training: (dy, x, gamma, saved) -> (dx, dgamma, dbeta, eps).
        forward_inference: (x, gamma, beta, moving_mean, moving_variance, settings) -> y.
        gradient_inference: (dy, x, gamma, beta, moving_mean, moving_variance, settings)
            -> (dx, dgamma, dbeta, rstd).
    """

    forward_training: Callable
    gradient_training: Callable
    forward_inference: Callable
    gradient_inference: Callable


def differentiable(operators: Fused) -> tuple[Callable, Callable]:
    """(forward_training, forward_inference) -> y, which PyNative mode can derive twice.

    Raises:
        RuntimeError: this MindSpore has no `Function`.
    """
    if Function is None:
        raise RuntimeError("this MindSpore has no mindspore.common._Function")

    class ParameterAt(Function):
        """Earlier values of a parameter; what is derived by them counts as derived by it."""

        @staticmethod
        def forward(ctx, parameter, values):
            return ops.concat((values,))

        @staticmethod
        def backward(ctx, dout):
            return dout, None

    class TrainingGradient(Function):
        @staticmethod
        def forward(ctx, dy, x, gamma, gamma_then, saved):
            *gradients, eps = operators.gradient_training(dy, x, gamma_then, saved)
            ctx.save_for_backward(dy, x, gamma, gamma_then, eps)
            return tuple(gradients)

        @staticmethod
        def backward(ctx, *douts):
            dy, x, gamma, gamma_then, eps = ctx.saved_tensors
            gamma = ParameterAt.apply(gamma, gamma_then)
            return (*gradient_of_gradient_training(dy, x, gamma, eps, douts), None, None)

    class Training(Function):
        @staticmethod
        def forward(ctx, x, gamma, *others):
            (gamma_then,) = copies(gamma)
            y, saved = operators.forward_training(x, gamma, *others)
            ctx.save_for_backward(x, gamma, gamma_then, saved)
            return y

        @staticmethod
        def backward(ctx, dy):
            x, *others = ctx.saved_tensors
            dx, dgamma, dbeta = TrainingGradient.apply(dy, _cast(x, dy.dtype), *others)
            return _cast(dx, x.dtype), dgamma, dbeta, None, None, None

    class InferenceGradient(Function):
        @staticmethod
        def forward(ctx, dy, x, gamma, gamma_then, moving_mean, moving_variance, settings):
            beta = gamma_then  # no gradient depends on its values
            *gradients, rstd = operators.gradient_inference(
                dy, x, gamma_then, beta, moving_mean, moving_variance, settings
            )
            ctx.save_for_backward(dy, x, gamma, gamma_then, moving_mean, rstd)
            return tuple(gradients)

        @staticmethod
        def backward(ctx, *douts):
            dy, x, gamma, gamma_then, moving_mean, rstd = ctx.saved_tensors
            gamma = ParameterAt.apply(gamma, gamma_then)
            gradients = gradient_of_gradient_inference(dy, x, gamma, moving_mean, rstd, douts)
            return (*gradients, None, None, None, None)

    class Inference(Function):
        @staticmethod
        def forward(ctx, x, gamma, beta, moving_mean, moving_variance, settings):
            constants = copies(gamma, moving_mean, moving_variance)
            ctx.save_for_backward(x, gamma, *constants, settings)
            return operators.forward_inference(
                x, gamma, beta, moving_mean, moving_variance, settings
            )

        @staticmethod
        def backward(ctx, dy):
            x, *others = ctx.saved_tensors
            dx, dgamma, dbeta = InferenceGradient.apply(dy, _cast(x, dy.dtype), *others)
            return _cast(dx, x.dtype), dgamma, dbeta, None, None, None

    return Training.apply, Inference.apply


def _cast(x, dtype):
    """In PyNative mode mixed precision casts what an operator gets, so y and dy can have another
    dtype than the layer's input.
    """
    return x if x.dtype == dtype else ops.cast(x, dtype)


def bprop_of_training(gradient_training: Callable) -> Callable:
    """The `bprop` of `Fused.forward_training`."""

    def bprop(x, gamma, beta, moving_mean, moving_variance, settings, out, dout):
        dx, dgamma, dbeta, _ = gradient_training(dout[0], x, gamma, out[1])
        return (dx, dgamma, dbeta, *_zeros_like(moving_mean, moving_variance, settings))

    return bprop


def bprop_of_inference(gradient_inference: Callable) -> Callable:
    """The `bprop` of `Fused.forward_inference`."""

    def bprop(x, gamma, beta, moving_mean, moving_variance, settings, out, dout):
        dx, dgamma, dbeta, _ = gradient_inference(
            dout, x, gamma, beta, moving_mean, moving_variance, settings
        )
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
    """The `bprop` of `Fused.gradient_training`. The statistics are functions of x, and are derived
    as such.
    """
    d_dy, d_x, d_gamma = gradient_of_gradient_training(dy, x, gamma, out[3], dout)
    return (d_dy, d_x, d_gamma, *_zeros_like(saved))


def inference_gradient_bprop(
    dy: Tensor,
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    moving_mean: Tensor,
    moving_variance: Tensor,
    settings: Tensor,
    out: tuple[Tensor, ...],
    dout: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    """The `bprop` of `Fused.gradient_inference`."""
    d_dy, d_x, d_gamma = gradient_of_gradient_inference(dy, x, gamma, moving_mean, out[3], dout)
    return (d_dy, d_x, d_gamma, *_zeros_like(beta, moving_mean, moving_variance, settings))


def _zeros_like(*tensors):
    return tuple([ops.zeros_like(tensor) for tensor in tensors])
