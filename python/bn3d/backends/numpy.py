"""Backend of the judge itself: `bn3d.reference` computes training, inference and both gradients.

It is slow and exact, and there to compare with: `BN3D_BACKEND=numpy` asks for it, and nothing
chooses it by itself. PyNative mode calls NumPy directly, on any system. Graph mode calls it
through `mindspore.ops.Custom(func_type="pyfunc")`. What that does not take the composed backend
computes: empty volumes, shapes that are not known while the graph is compiled, and graphs on other
systems than Linux.

NumPy knows no bfloat16: such volumes travel as float32. All vectors (C,) travel as float64.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from bn3d import reference
from bn3d.backends import composed
from bn3d.backends.backend import Backend, Operators
from bn3d.backends.composed import is_empty
from bn3d.backends.fused import (
    Pass,
    bprop_of_forward,
    differentiable,
    inference_gradient_bprop,
    of_inference,
    of_training,
    training_gradient_bprop,
)
from bn3d.backends.settings import as_bits
from bn3d.mindspore_private.execution import is_compiling, is_constant
from bn3d.operators import OPERATORS, Operator

__all__ = ["BACKEND"]


def _settings(eps: float, momentum: float) -> tuple[Tensor, bool, Any]:
    """Eps and momentum for NumPy, whether the moving statistics change, and the same for the
    composed backend.
    """
    return as_bits(eps, momentum), momentum < 1, composed.BACKEND.settings(eps, momentum)


# What NumPy computes. Volumes come and go in their dtype, vectors in float64, `saved` and
# `settings` as the bits of doubles.


def _forward_training(x, gamma, beta, moving_mean, moving_variance, settings):
    eps, momentum = settings.view(np.float64)
    result = reference.forward_training(x, gamma, beta, moving_mean, moving_variance, eps, momentum)
    saved = _saved(result.mean, result.variance, gamma, eps)
    return result.y.astype(x.dtype), saved, result.moving_mean, result.moving_variance


def _forward_inference(x, gamma, beta, moving_mean, moving_variance, settings):
    eps, _ = settings.view(np.float64)
    y = reference.forward_inference(x, gamma, beta, moving_mean, moving_variance, eps)
    return y.astype(x.dtype), _saved(moving_mean, moving_variance, gamma, eps)


def _saved(mean, variance, gamma, eps):
    return np.stack([mean, variance, gamma, np.full_like(mean, eps)]).view(np.int64)


def _gradient(judge, dy, x, saved):
    mean, variance, gamma, eps = saved.view(np.float64)
    dx, dgamma, dbeta = judge(dy, x, gamma, mean, variance, eps[0])
    with np.errstate(divide="ignore"):
        statistics = np.stack([mean, 1 / np.sqrt(variance + eps), gamma, eps])
    return dx.astype(x.dtype), dgamma, dbeta, statistics


def _gradient_training(dy, x, gamma, saved):
    return _gradient(reference.gradient_training, dy, x, saved)


def _gradient_inference(dy, x, gamma, saved):
    return _gradient(reference.gradient_inference, dy, x, saved)


# PyNative mode: NumPy is called as it is.


def _array(tensor):
    """A volume in its own dtype or float32."""
    return (ops.cast(tensor, ms.float32) if tensor.dtype == ms.bfloat16 else tensor).asnumpy()


def _vectors(*tensors):
    return [_array(tensor).astype(np.float64) for tensor in tensors]


def _train(x, gamma, beta, moving_mean, moving_variance, settings):
    bits, updates, _ = settings
    rest = [*_vectors(gamma, beta, moving_mean, moving_variance), bits.asnumpy()]
    y, saved, mean, variance = _forward_training(_array(x), *rest)
    if updates:
        moving_mean.set_data(Tensor(mean, moving_mean.dtype))
        moving_variance.set_data(Tensor(variance, moving_variance.dtype))
    return Tensor(y, x.dtype), Tensor(saved)


def _infer(x, gamma, beta, moving_mean, moving_variance, settings):
    rest = [*_vectors(gamma, beta, moving_mean, moving_variance), settings[0].asnumpy()]
    y, saved = _forward_inference(_array(x), *rest)
    return Tensor(y, x.dtype), Tensor(saved)


def _derive_by(gradient):
    def derive(dy, x, gamma, saved):
        arrays = gradient(_array(dy), _array(x), None, saved.asnumpy())
        dtypes = (x.dtype, gamma.dtype, gamma.dtype, ms.float64)
        return tuple(map(Tensor, arrays, dtypes))

    return derive


_training = differentiable(Pass(_train, _derive_by(_gradient_training), of_training))
_inference = differentiable(Pass(_infer, _derive_by(_gradient_inference), of_inference))


# Graph mode: NumPy is called by operators.


_HAS_CUSTOM = platform.system() == "Linux"


def _custom(function, out_shape, out_dtype, bprop=None):
    if not _HAS_CUSTOM:
        return None
    return ops.Custom(function, out_shape, out_dtype, "pyfunc", bprop)


def _gradient_operator(gradient, bprop):
    return _custom(
        gradient,
        lambda dy, x, gamma, saved: (x, gamma, gamma, saved),
        lambda dy, x, gamma, saved: (x, ms.float64, ms.float64, ms.float64),
        bprop,
    )


_gradient_training_operator = _gradient_operator(_gradient_training, training_gradient_bprop)
_gradient_inference_operator = _gradient_operator(_gradient_inference, inference_gradient_bprop)

_training_operator = _custom(
    _forward_training,
    lambda x, gamma, beta, mean, variance, bits: (x, [4, x[1]], gamma, gamma),
    lambda x, gamma, beta, mean, variance, bits: (x, ms.int64, ms.float64, ms.float64),
    bprop_of_forward(_gradient_training_operator),
)

_inference_operator = _custom(
    _forward_inference,
    lambda x, gamma, beta, mean, variance, bits: (x, [4, x[1]]),
    lambda x, gamma, beta, mean, variance, bits: (x, ms.int64),
    bprop_of_forward(_gradient_inference_operator),
)


def _known(x):
    """A volume as NumPy takes it."""
    return ops.cast(x, ms.float32) if x.dtype == ms.bfloat16 else x


def _wide(vector):
    return ops.cast(vector, ms.float64)


def _taken(x):
    if is_compiling() and not (_HAS_CUSTOM and is_constant(x.shape)):
        return False
    return not is_empty(x.shape)


def forward_training(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    moving_mean: Tensor,
    moving_variance: Tensor,
    settings: tuple[Tensor, bool, Any],
) -> tuple[Tensor, ...]:
    """(y,), normalised by the batch; updates the moving statistics."""
    if not _taken(x):
        return composed.forward_training(x, gamma, beta, moving_mean, moving_variance, settings[2])
    if not is_compiling():
        return (_training(x, gamma, beta, moving_mean, moving_variance, settings),)
    bits, updates = settings[0], settings[1]
    vectors = (_wide(gamma), _wide(beta), _wide(moving_mean), _wide(moving_variance))
    y, _, mean, variance = _training_operator(_known(x), *vectors, bits)
    if updates:
        ops.assign(moving_mean, ops.cast(ops.stop_gradient(mean), moving_mean.dtype))
        ops.assign(moving_variance, ops.cast(ops.stop_gradient(variance), moving_variance.dtype))
    return (ops.cast(y, x.dtype),)


def forward_inference(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    moving_mean: Tensor,
    moving_variance: Tensor,
    settings: tuple[Tensor, bool, Any],
) -> Tensor:
    """y, normalised by the moving statistics."""
    if not _taken(x):
        return composed.forward_inference(x, gamma, beta, moving_mean, moving_variance, settings[2])
    if not is_compiling():
        return _inference(x, gamma, beta, moving_mean, moving_variance, settings)
    vectors = (_wide(gamma), _wide(beta), _wide(moving_mean), _wide(moving_variance))
    return ops.cast(_inference_operator(_known(x), *vectors, settings[0])[0], x.dtype)


def _operator(operator: Operator) -> Callable:
    """One of the four operators, in either mode."""
    judge = getattr(reference, operator.module.removeprefix("bn3d_"))
    kinds = [tensor.kind for tensor in operator.inputs]
    volume, channel = kinds.index("volume"), kinds.index("channel")

    @functools.wraps(judge)  # MindSpore counts the arguments of its signature
    def compute(*arrays):
        results = judge(*arrays)
        results = results if isinstance(results, tuple) else (results,)
        cast = tuple(
            result.astype(arrays[volume].dtype if tensor.kind == "volume" else np.float32)
            for tensor, result in zip(operator.outputs, results, strict=True)
        )
        return cast if len(cast) > 1 else cast[0]

    def infer(values, of_channel):
        found = tuple(
            values[volume] if tensor.kind == "volume" else of_channel for tensor in operator.outputs
        )
        return found if len(found) > 1 else found[0]

    custom = _custom(
        compute,
        lambda *shapes: infer(shapes, shapes[channel]),
        lambda *dtypes: infer(dtypes, ms.float32),
    )

    def call(*tensors):
        if is_compiling():
            return custom(*tensors)
        results = compute(*map(_array, tensors))
        return tuple(map(Tensor, results)) if isinstance(results, tuple) else Tensor(results)

    return call


BACKEND = Backend(
    "numpy",
    _settings,
    forward_training,
    forward_inference,
    Operators(*(_operator(operator) for operator in OPERATORS)),
    dtypes=("float32", "float16", "float64"),
)
