"""Backend of the native CPU library, through `mindspore.ops.Custom(func_type="aot")`.

The library's fused operators save what the gradient needs as `saved` (3, C): mean and
1/sqrt(variance + eps) of the batch, and eps, doubles in the guise of int64 like `settings`.

Shapes and dtypes are inferred by the library: inference in Python fails in graph mode where they
are known only as the graph runs. Graph mode differentiates by the operators' `bprop`, PyNative
mode by a `_Function` around them: there MindSpore records and replays a `bprop` as a network of
its own, which costs as much as a kernel.

Importing this module loads the library and registers its operators; it raises
`bn3d.backends.library.LibraryError` where that is not possible.
"""

from __future__ import annotations

import numpy as np
from mindspore import Tensor, ops
from mindspore.common import _Function
from mindspore.ops import CustomRegOp, DataType
from mindspore.ops import signature as sig

from bn3d.backends import library
from bn3d.backends.second_order import (
    gradient_of_gradient_inference,
    gradient_of_gradient_training,
)
from bn3d.backends.snapshots import copies, parameter_at
from bn3d.mindspore_private.execution import is_compiling
from bn3d.operators import OPERATORS, Operator

__all__ = [
    "apply",
    "forward_inference",
    "forward_training",
    "grad_apply",
    "grad_reduce",
    "reduce",
    "settings",
]

_LIBRARY = library.load()


def _custom(name, inputs, outputs, bprop=None, kind=ops.Custom) -> ops.Custom:
    """An operator of the library; inputs and outputs are names, separated by blanks.

    DataType.None_None hands tensors over as they are, whatever their dtype.
    """
    registration = CustomRegOp(name)
    for index, tensor in enumerate(inputs.split()):
        registration.input(index, tensor)
    for index, tensor in enumerate(outputs.split()):
        registration.output(index, tensor)
    formats = [DataType.None_None] * len(f"{inputs} {outputs}".split())
    return kind(
        f"{_LIBRARY.path}:{name}",
        func_type="aot",
        bprop=bprop,
        reg_info=registration.dtype_format(*formats).target("CPU").get_op_info(),
    )


def settings(eps: float, momentum: float) -> Tensor:
    """Return (eps, momentum), doubles in the guise of int64: mixed precision casts every
    floating tensor that a layer hands to an operator.
    """
    return Tensor(np.array([eps, momentum]).view(np.int64))


def _zeros_like(*tensors):
    return tuple([ops.zeros_like(tensor) for tensor in tensors])


def _bprop_gradient_training(dy, x, gamma, saved, out, dout):
    d_dy, d_x, d_gamma = gradient_of_gradient_training(dy, x, gamma, out[3], dout)
    # mean and 1/sqrt(variance + eps) are functions of x, and were derived as such.
    return (d_dy, d_x, d_gamma, *_zeros_like(saved))


def _bprop_gradient_inference(
    dy, x, gamma, beta, moving_mean, moving_variance, settings, out, dout
):
    d_dy, d_x, d_gamma = gradient_of_gradient_inference(dy, x, gamma, moving_mean, out[3], dout)
    return (d_dy, d_x, d_gamma, *_zeros_like(beta, moving_mean, moving_variance, settings))


_gradient_training = _custom(
    "Bn3dGradientTraining",
    "dy x gamma saved",
    "dx dgamma dbeta eps",
    _bprop_gradient_training,
)

_gradient_inference = _custom(
    "Bn3dGradientInference",
    "dy x gamma beta moving_mean moving_variance settings",
    "dx dgamma dbeta rstd",
    _bprop_gradient_inference,
)


def _bprop_training(x, gamma, beta, moving_mean, moving_variance, settings, out, dout):
    dx, dgamma, dbeta, _ = _gradient_training(dout[0], x, gamma, out[1])
    return (dx, dgamma, dbeta, *_zeros_like(moving_mean, moving_variance, settings))


def _bprop_inference(x, gamma, beta, moving_mean, moving_variance, settings, out, dout):
    dx, dgamma, dbeta, _ = _gradient_inference(
        dout, x, gamma, beta, moving_mean, moving_variance, settings
    )
    return (dx, dgamma, dbeta, *_zeros_like(moving_mean, moving_variance, settings))


class _InPlaceCustom(ops.Custom):
    """An operator that writes its inputs moving_mean and moving_variance.

    Without the signature mixed precision would hand it copies of them, without the attribute a
    graph could reorder it, and without `recompute(False)` it would run twice in a network that
    is recomputed.
    """

    __mindspore_signature__ = (
        sig.make_sig("x"),
        sig.make_sig("gamma"),
        sig.make_sig("beta"),
        sig.make_sig("moving_mean", sig.sig_rw.RW_WRITE),
        sig.make_sig("moving_variance", sig.sig_rw.RW_WRITE),
        sig.make_sig("settings"),
    )

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.add_prim_attr("side_effect_mem", True)
        self.recompute(False)


_forward_training = _custom(
    "Bn3dForwardTraining",
    "x gamma beta moving_mean moving_variance settings",
    "y saved",
    _bprop_training,
    _InPlaceCustom,
)

_forward_inference = _custom(
    "Bn3dForwardInference",
    "x gamma beta moving_mean moving_variance settings",
    "y",
    _bprop_inference,
)


def _cast(x, dtype):
    """In PyNative mode mixed precision casts what an operator gets, so y and dy can have another
    dtype than the layer's input.
    """
    return x if x.dtype == dtype else ops.cast(x, dtype)


class _TrainingGradient(_Function):
    @staticmethod
    def forward(ctx, dy, x, gamma, gamma_then, saved):
        *gradients, eps = _gradient_training(dy, x, gamma_then, saved)
        ctx.save_for_backward(dy, x, gamma, gamma_then, eps)
        return tuple(gradients)

    @staticmethod
    def backward(ctx, *douts):
        dy, x, gamma, gamma_then, eps = ctx.saved_tensors
        gamma = parameter_at(gamma, gamma_then)
        return (*gradient_of_gradient_training(dy, x, gamma, eps, douts), None, None)


class _Training(_Function):
    @staticmethod
    def forward(ctx, x, gamma, *others):
        (gamma_then,) = copies(gamma)
        y, saved = _forward_training(x, gamma, *others)
        ctx.save_for_backward(x, gamma, gamma_then, saved)
        return y

    @staticmethod
    def backward(ctx, dy):
        x, *others = ctx.saved_tensors
        dx, dgamma, dbeta = _TrainingGradient.apply(dy, _cast(x, dy.dtype), *others)
        return _cast(dx, x.dtype), dgamma, dbeta, None, None, None


class _InferenceGradient(_Function):
    @staticmethod
    def forward(ctx, dy, x, gamma, gamma_then, moving_mean, moving_variance, settings):
        beta = gamma_then  # no gradient depends on its values
        *gradients, rstd = _gradient_inference(
            dy, x, gamma_then, beta, moving_mean, moving_variance, settings
        )
        ctx.save_for_backward(dy, x, gamma, gamma_then, moving_mean, rstd)
        return tuple(gradients)

    @staticmethod
    def backward(ctx, *douts):
        dy, x, gamma, gamma_then, *statistics = ctx.saved_tensors
        gamma = parameter_at(gamma, gamma_then)
        gradients = gradient_of_gradient_inference(dy, x, gamma, *statistics, douts)
        return (*gradients, None, None, None, None)


class _Inference(_Function):
    @staticmethod
    def forward(ctx, x, gamma, beta, moving_mean, moving_variance, settings):
        constants = copies(gamma, moving_mean, moving_variance)
        ctx.save_for_backward(x, gamma, *constants, settings)
        return _forward_inference(x, gamma, beta, moving_mean, moving_variance, settings)

    @staticmethod
    def backward(ctx, dy):
        x, *others = ctx.saved_tensors
        dx, dgamma, dbeta = _InferenceGradient.apply(dy, _cast(x, dy.dtype), *others)
        return _cast(dx, x.dtype), dgamma, dbeta, None, None, None


def forward_training(x, gamma, beta, moving_mean, moving_variance, settings):
    """(y, ...), normalised by the batch; updates the moving statistics."""
    if is_compiling():
        return _forward_training(x, gamma, beta, moving_mean, moving_variance, settings)
    return (_Training.apply(x, gamma, beta, moving_mean, moving_variance, settings),)


def forward_inference(x, gamma, beta, moving_mean, moving_variance, settings):
    """y, normalised by the moving statistics."""
    if is_compiling():
        return _forward_inference(x, gamma, beta, moving_mean, moving_variance, settings)
    return _Inference.apply(x, gamma, beta, moving_mean, moving_variance, settings)


def _operator(operator: Operator) -> ops.Custom:
    inputs, outputs = (
        " ".join(tensor.name for tensor in tensors)
        for tensors in (operator.inputs, operator.outputs)
    )
    return _custom(operator.type, inputs, outputs)


reduce, apply, grad_reduce, grad_apply = (_operator(operator) for operator in OPERATORS)
