"""Backend of the judge itself: `bn3d.reference` computes training, inference and both gradients.

It is slow and exact, and there to compare with: `BN3D_BACKEND=numpy` asks for it, and nothing
chooses it by itself. PyNative mode calls NumPy directly, on any system. Graphs call it by operators
of the native library; where there is no library the composed backend computes them.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from bn3d import reference
from bn3d.backends import composed
from bn3d.backends.backend import Backend, Operators
from bn3d.backends.channels import is_empty
from bn3d.backends.fused import (
    Pass,
    bprop_of_forward,
    differentiable,
    inference_gradient_bprop,
    of_inference,
    of_training,
    training_gradient_bprop,
)
from bn3d.backends.library import LibraryError
from bn3d.backends.settings import as_bits
from bn3d.float_environment import standard_floats
from bn3d.mindspore_private.execution import is_compiling
from bn3d.mindspore_private.operators import InPlaceCustom
from bn3d.operators import OPERATORS, Operator

__all__ = ["BACKEND"]


def _settings(eps: float, momentum: float) -> tuple[Tensor, Any]:
    """Eps and momentum for NumPy, and the same for the composed backend."""
    if _CUSTOM is None:
        _say_what_computes_graphs()
    return as_bits(eps, momentum), composed.BACKEND.settings(eps, momentum)


# What NumPy computes. Results are in float64, for the caller to round; `saved` and `settings` are
# the bits of doubles.


def _forward_training(x, gamma, beta, moving_mean, moving_variance, settings):
    eps, momentum = settings.view(np.float64)
    result = reference.forward_training(x, gamma, beta, moving_mean, moving_variance, eps, momentum)
    moving = result.moving_mean, result.moving_variance
    if momentum == 1:  # not even a NaN of the batch gets in
        moving = moving_mean, moving_variance
    return result.y, _saved(result.mean, result.variance, gamma, eps), *moving


def _forward_inference(x, gamma, beta, moving_mean, moving_variance, settings):
    eps, _ = settings.view(np.float64)
    y = reference.forward_inference(x, gamma, beta, moving_mean, moving_variance, eps)
    return y, _saved(moving_mean, moving_variance, gamma, eps)


def _saved(mean, variance, gamma, eps):
    rows = mean, variance, gamma, np.full_like(mean, eps, np.float64)
    return np.array(rows, np.float64).view(np.int64)


def _gradient(judge, dy, x, saved):
    mean, variance, gamma, eps = saved.view(np.float64)
    dx, dgamma, dbeta = judge(dy, x, gamma, mean, variance, eps[0])
    with np.errstate(divide="ignore"):
        statistics = np.stack([mean, 1 / np.sqrt(variance + eps), gamma, eps])
    return dx, dgamma, dbeta, statistics


def _gradient_training(dy, x, gamma, saved):
    return _gradient(reference.gradient_training, dy, x, saved)


def _gradient_inference(dy, x, gamma, saved):
    return _gradient(reference.gradient_inference, dy, x, saved)


# PyNative mode: NumPy is called as it is.


def _array(tensor):
    """The values of a tensor; NumPy knows no bfloat16, which float32 holds."""
    return (ops.cast(tensor, ms.float32) if tensor.dtype == ms.bfloat16 else tensor).asnumpy()


@standard_floats()
def _train(x, gamma, beta, moving_mean, moving_variance, bits):
    vectors = map(_array, (gamma, beta, moving_mean, moving_variance, bits))
    y, saved, mean, variance = _forward_training(_array(x), *vectors)
    if bits.asnumpy().view(np.float64)[1] < 1:
        moving_mean.set_data(Tensor(mean, moving_mean.dtype))
        moving_variance.set_data(Tensor(variance, moving_variance.dtype))
    return Tensor(y, x.dtype), Tensor(saved)


@standard_floats()
def _infer(x, gamma, beta, moving_mean, moving_variance, bits):
    vectors = map(_array, (gamma, beta, moving_mean, moving_variance, bits))
    y, saved = _forward_inference(_array(x), *vectors)
    return Tensor(y, x.dtype), Tensor(saved)


def _derive_by(gradient):
    @standard_floats()
    def derive(dy, x, gamma, saved):
        arrays = gradient(_array(dy), _array(x), None, saved.asnumpy())
        dtypes = (x.dtype, gamma.dtype, gamma.dtype, ms.float64)
        return tuple(map(Tensor, arrays, dtypes))

    return derive


_training = differentiable(Pass(_train, _derive_by(_gradient_training), of_training))
_inference = differentiable(Pass(_infer, _derive_by(_gradient_inference), of_inference))


# Graph mode: NumPy is called by operators, which have the tensors of the native backend's.


_FUSED = "x gamma beta moving_mean moving_variance settings"


def _fused_operators(custom):
    """Training and inference."""

    def forward(of, function, gradient, gradient_bprop, **arguments):
        derive = custom(
            f"Bn3dNumpyGradient{of}",
            gradient,
            "dy x gamma saved",
            "dx dgamma dbeta statistics",
            bprop=gradient_bprop,
        )
        name, bprop = f"Bn3dNumpyForward{of}", bprop_of_forward(derive)
        return custom(name, function, _FUSED, "y saved", bprop=bprop, **arguments)

    return (
        forward(
            "Training",
            _forward_training,
            _gradient_training,
            training_gradient_bprop,
            changes=(3, 4),
            kind=InPlaceCustom,
        ),
        forward("Inference", _forward_inference, _gradient_inference, inference_gradient_bprop),
    )


def _operator(operator: Operator, custom: Callable | None) -> Callable:
    """One of the four operators; without the library in PyNative mode alone."""
    judge = getattr(reference, operator.module.removeprefix("bn3d_"))
    volume = [tensor.kind for tensor in operator.inputs].index("volume")
    single = len(operator.outputs) == 1

    def compute(*arrays):
        results = judge(*arrays)
        return (results,) if single else results

    def names(tensors):
        return " ".join(tensor.name for tensor in tensors)

    if custom is not None:
        name = operator.type.replace("Bn3d", "Bn3dNumpy")
        return custom(name, compute, names(operator.inputs), names(operator.outputs))

    @standard_floats()
    def call(*tensors):
        of_kind = {"volume": tensors[volume].dtype, "channel": ms.float32}
        dtypes = [of_kind[tensor.kind] for tensor in operator.outputs]
        outputs = tuple(map(Tensor, compute(*map(_array, tensors)), dtypes))
        return outputs[0] if single else outputs

    return call


@functools.cache
def _say_what_computes_graphs() -> None:
    logging.getLogger("bn3d").warning(
        "in graphs bn3d computes with its composed backend, not with NumPy: %s", _REASON
    )


_CUSTOM: Callable | None = None
_REASON = ""
try:
    from bn3d.backends.python_operators import custom as _CUSTOM  # noqa: N812
except (LibraryError, TypeError, ValueError, RuntimeError, OSError) as error:
    _REASON = str(error)
_training_operator: Any = None
_inference_operator: Any = None
if _CUSTOM is not None:
    _training_operator, _inference_operator = _fused_operators(_CUSTOM)


# What the layers call.


def _is_composed(x):
    if is_compiling():
        return _training_operator is None
    return is_empty(x.shape)


def forward_training(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    moving_mean: Tensor,
    moving_variance: Tensor,
    settings: tuple[Tensor, Any],
) -> tuple[Tensor, ...]:
    """(y, ...), normalised by the batch; updates the moving statistics."""
    inputs = (x, gamma, beta, moving_mean, moving_variance)
    if _is_composed(x):
        return composed.forward_training(*inputs, settings[1])
    if is_compiling():
        return _training_operator(*inputs, settings[0])
    return (_training(*inputs, settings[0]),)


def forward_inference(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    moving_mean: Tensor,
    moving_variance: Tensor,
    settings: tuple[Tensor, Any],
) -> Tensor:
    """y, normalised by the moving statistics."""
    inputs = (x, gamma, beta, moving_mean, moving_variance)
    if _is_composed(x):
        return composed.forward_inference(*inputs, settings[1])
    if is_compiling():
        return _inference_operator(*inputs, settings[0])[0]
    return _inference(*inputs, settings[0])


BACKEND = Backend(
    "numpy",
    _settings,
    forward_training,
    forward_inference,
    Operators(*(_operator(operator, _CUSTOM) for operator in OPERATORS)),
)
