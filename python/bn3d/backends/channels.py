"""The values of a channel of (N, C, D, H, W): how many there are, their mean, and the channel
normalised by it. What several backends compute with MindSpore's operators.
"""

from __future__ import annotations

from collections.abc import Callable

import mindspore as ms
from mindspore import Tensor, ops

from bn3d.mindspore_private.execution import is_compiling, is_constant

__all__ = [
    "AXES",
    "channel_mean",
    "is_empty",
    "normalize",
    "normalize_by",
    "per_channel",
    "values_per_channel",
]

AXES = (0, 2, 3, 4)


@ops.constexpr(check=False)
def is_empty(shape: tuple[int, ...] | None) -> bool:
    """Whether a volume of this shape, None if not known yet, has no values. MindSpore leaves sums
    over nothing unwritten.
    """
    return shape is not None and 0 in shape


def values_per_channel(x: Tensor) -> int | Tensor:
    """N*D*H*W: a number, so that what follows from it costs no operator, or a float32
    tensor (1,) where the shape is not known before the run.
    """
    if is_constant(x.shape):
        n, _, d, h, w = x.shape
        return n * d * h * w
    sizes = ops.cast(ops.TensorShape()(x), ms.float32)
    return sizes[0:1] * ops.prod(sizes[2:])


def per_channel(vector: Tensor, like: Tensor) -> Tensor:
    """A (C,) vector as (1, C, 1, 1, 1) in the dtype of `like`."""
    # In this order: PyNative mode of 2.10 loses second derivatives with respect to a Parameter
    # whose first operator is a cast. Graphs reshape no bfloat16 on a CPU.
    if is_compiling() and vector.dtype == ms.bfloat16:
        vector = ops.cast(vector, like.dtype)
    return ops.cast(ops.reshape(vector, (1, -1, 1, 1, 1)), like.dtype)


def channel_mean(x: Tensor) -> Tensor:
    """Mean of each channel as (1, C, 1, 1, 1), 0 of no values."""
    if is_empty(x.shape):
        return ops.zeros((1, x.shape[1], 1, 1, 1), x.dtype)
    return ops.mean(x, AXES, True)


def normalize_by(channel_mean: Callable) -> Callable:
    """`normalize` with another mean over a channel. A closure: MindSpore 2.10 cannot differentiate
    a function twice that takes another one as an argument.
    """

    def normalize(x, eps):
        """(x - mean) * rstd, mean, biased variance, rstd; the last three (1, C, 1, 1, 1).

        rstd is 1/sqrt(variance + eps), and 0 where that is infinite.
        """
        mean = channel_mean(x)
        # What rounding left in the mean is taken out by the mean of the rest.
        rest = channel_mean(x - mean)
        centered = x - mean - rest
        variance = channel_mean(ops.square(centered))
        squared = variance + eps
        # Selected twice, so that no derivative meets the infinity.
        infinite = squared == 0
        rstd = ops.rsqrt(ops.select(infinite, ops.ones_like(squared), squared))
        rstd = ops.select(infinite, ops.zeros_like(rstd), rstd)
        return centered * rstd, mean + rest, variance, rstd

    return normalize


normalize = normalize_by(channel_mean)
