"""Checks of a layer's arguments and of its input."""

from __future__ import annotations

import math
import numbers
from typing import Any, NoReturn

import mindspore as ms
from mindspore import ops
from mindspore.common.initializer import initializer

__all__ = ["check", "check_inits", "check_input", "refuse_input", "refuse_to_be_split"]

_DTYPES = (ms.float32, ms.float16, ms.bfloat16, ms.float64)
_NAMES = [str(dtype).lower() for dtype in _DTYPES]


def check(
    num_features: object,
    eps: object,
    momentum: object,
    affine: object,
    use_batch_statistics: object,
    dtype: object,
) -> None:
    """Raise TypeError or ValueError for an argument of `BatchNorm3d` that it does not take."""

    def fail(error: type[Exception], name: str, must: str, got: object) -> NoReturn:
        raise error(f"BatchNorm3d: '{name}' must be {must}, got {got!r} ({type(got).__name__})")

    if isinstance(num_features, bool) or not isinstance(num_features, int):
        fail(TypeError, "num_features", "an int", num_features)
    if num_features < 1:
        fail(ValueError, "num_features", "at least 1", num_features)
    if isinstance(eps, bool) or not isinstance(eps, numbers.Real):
        fail(TypeError, "eps", "a number", eps)
    if not (math.isfinite(eps) and float(eps) >= 0):
        fail(ValueError, "eps", "finite and not negative", eps)
    if momentum is None:
        raise TypeError(
            "BatchNorm3d: 'momentum' must be a number from 0 to 1, got None; the cumulative "
            "average that None means in PyTorch does not exist here"
        )
    if isinstance(momentum, bool) or not isinstance(momentum, numbers.Real):
        fail(TypeError, "momentum", "a number from 0 to 1", momentum)
    if not 0 <= float(momentum) <= 1:
        fail(ValueError, "momentum", "a number from 0 to 1", momentum)
    if not isinstance(affine, bool):
        fail(TypeError, "affine", "a bool", affine)
    if use_batch_statistics is not None and not isinstance(use_batch_statistics, bool):
        fail(TypeError, "use_batch_statistics", "a bool or None", use_batch_statistics)
    if dtype not in _DTYPES:
        fail(TypeError, "dtype", "a floating-point dtype of MindSpore", dtype)


def check_inits(num_features: int, dtype: ms.Type, *inits: Any) -> None:
    """Raise TypeError or ValueError for an initial value of gamma, beta, or a moving statistic."""
    names = ("gamma_init", "beta_init", "moving_mean_init", "moving_var_init")
    for name, init in zip(names, inits, strict=True):
        try:
            if isinstance(init, bool):
                raise TypeError("a bool, which MindSpore takes for a number")
            if isinstance(init, numbers.Number):
                float(init)  # type: ignore[arg-type]
            initializer(init, num_features, dtype=dtype)
        except (OverflowError, TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(
                f"BatchNorm3d: '{name}' must be a Tensor of shape ({num_features},), a number, the "
                f"name of an initializer or an Initializer, got {init!r} ({type(init).__name__})"
            ) from error


def _wrong_type(got):
    return TypeError(
        f"BatchNorm3d: x must be a Tensor of {', '.join(_NAMES[:-1])} or {_NAMES[-1]}, got {got}"
    )


@ops.constexpr
def refuse_input(kind: object) -> NoReturn:
    """Raise TypeError for an x of this type."""
    raise _wrong_type(kind)


@ops.constexpr
def refuse_to_be_split() -> NoReturn:
    """Raise RuntimeError in a mode that splits operators over devices."""
    raise RuntimeError(
        f"BatchNorm3d: parallel_mode {ms.get_auto_parallel_context('parallel_mode')!r} splits "
        "operators over devices, and MindSpore does not know how to split those of bn3d: use "
        "bn3d.restore(net) or mindspore.nn.BatchNorm3d in this mode, or data_parallel, with "
        "bn3d.swap(net, sync=True) for statistics over all devices"
    )


@ops.constexpr
def check_input(shape: tuple[int, ...] | None, dtype: ms.Type, num_features: int) -> None:
    """Raise TypeError or ValueError for an x of this dtype and shape, None if not known yet."""
    if dtype not in _DTYPES:
        raise _wrong_type(repr(dtype))
    if shape is None:
        return  # a rank that is not known yet
    if len(shape) != 5:
        raise ValueError(
            f"BatchNorm3d: x must have 5 dimensions (N, C, D, H, W), got shape {tuple(shape)}"
        )
    if shape[1] not in (num_features, -1, None):
        raise ValueError(
            f"BatchNorm3d: x must have num_features = {num_features} channels, got {shape[1]} "
            f"in shape {tuple(shape)}"
        )
