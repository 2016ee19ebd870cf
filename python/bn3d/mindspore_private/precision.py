"""Mixed precision stays outside of a backend: it computes in the dtypes that it chose."""

from __future__ import annotations

from collections.abc import Callable

from mindspore import nn
from mindspore._c_expression import MixedPrecisionType

from bn3d.mindspore_private.execution import is_compiling

__all__ = ["unmixed", "unmixed_call"]


class _Unmixed(nn.Cell):
    """Calls a function outside of the caller's mixed precision."""

    def __init__(self, function):
        super().__init__(auto_prefix=False)
        self.function = function
        self.mixed_precision_type = MixedPrecisionType.NOTSET

    def construct(self, *arguments):
        return self.function(*arguments)


def unmixed_call(function: Callable) -> Callable:
    """A function of tensors, outside of the caller's mixed precision; in PyNative mode only."""
    return _Unmixed(function)


def unmixed(forward: Callable) -> Callable:
    """A backend's `forward_training` or `forward_inference`, out of reach of `to_float`.

    In PyNative mode a layer under `to_float` casts the floating inputs of all operators that it
    calls, also channel vectors: sums over a volume overflow in float16. Graph mode casts a
    layer's inputs alone.
    """
    cell = _Unmixed(forward)

    def either(x, gamma, beta, moving_mean, moving_variance, settings):
        if is_compiling():
            return forward(x, gamma, beta, moving_mean, moving_variance, settings)
        return cell(x, gamma, beta, moving_mean, moving_variance, settings)

    return either
