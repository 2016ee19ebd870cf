"""The judge: batch normalisation over 5-D tensors in NumPy, computed and returned in float64.

The four operators come first; training, inference and both gradients are built from
them. This file defines what every other backend has to compute: it favours plain
formulas over speed and rounds nothing, so a caller rounds to the dtype it compares.

Formulas: Ioffe & Szegedy, "Batch Normalization" (arXiv:1502.03167), Algorithm 1 for the
forward pass and section 3 for the gradient; shifted sums: Chan, Golub & LeVeque,
"Algorithms for Computing the Sample Variance" (1983), eq. 1.7.

Volumes are (N, C, D, H, W); channel vectors are (C,). n = N*D*H*W.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

# How far a result in a dtype may be off, relative to its scale. Half precision: half a unit in the
# last place, twice. float32 and float64: sums in any order, and reciprocal square roots as accurate
# as devices have them.
TOLERANCES = {"float64": 1e-11, "float32": 2e-5, "float16": 1e-3, "bfloat16": 8e-3}

_AXES = (0, 2, 3, 4)


def reduce(x: ArrayLike, shift: ArrayLike) -> tuple[Array, Array]:
    """`Bn3dReduce`: per channel sum(x - shift) and sum((x - shift)^2)."""
    centered = _volume(x) - _per_channel(shift)
    return centered.sum(_AXES), np.square(centered).sum(_AXES)


def apply(x: ArrayLike, mean: ArrayLike, multiplier: ArrayLike, offset: ArrayLike) -> Array:
    """`Bn3dApply`: (x - mean) * multiplier + offset."""
    centered = _volume(x) - _per_channel(mean)
    return centered * _per_channel(multiplier) + _per_channel(offset)


def grad_reduce(dy: ArrayLike, x: ArrayLike, mean: ArrayLike) -> tuple[Array, Array]:
    """`Bn3dGradReduce`: per channel sum(dy) and sum(dy * (x - mean))."""
    dy = _volume(dy)
    centered = _volume(x) - _per_channel(mean)
    return dy.sum(_AXES), (dy * centered).sum(_AXES)


def grad_apply(
    dy: ArrayLike, x: ArrayLike, mean: ArrayLike, a: ArrayLike, b: ArrayLike, c: ArrayLike
) -> Array:
    """`Bn3dGradApply`: a * dy + b * (x - mean) + c."""
    centered = _volume(x) - _per_channel(mean)
    return _per_channel(a) * _volume(dy) + _per_channel(b) * centered + _per_channel(c)


class Training(NamedTuple):
    """Result of `forward_training`.

    Attributes:
        y: normalised volume, (N, C, D, H, W).
        mean: of the batch, (C,).
        variance: of the batch, biased (divided by n), (C,).
        moving_mean: updated, (C,).
        moving_variance: updated with the unbiased variance (divided by n - 1), (C,).
    """

    y: Array
    mean: Array
    variance: Array
    moving_mean: Array
    moving_variance: Array


def batch_statistics(x: ArrayLike) -> tuple[Array, Array]:
    """Mean and biased variance of each channel; (0, 0) for a channel without values.

    The second reduction is shifted by the mean of the first, so the subtraction
    square_sum/n - (sum/n)^2 cancels nothing.
    """
    x = _volume(x)
    count = x.size // x.shape[1]
    if count == 0:
        return np.zeros(x.shape[1]), np.zeros(x.shape[1])
    mean = reduce(x, np.zeros(x.shape[1]))[0] / count
    rest, square_sum = reduce(x, mean)
    rest /= count
    return mean + rest, np.maximum(square_sum / count - np.square(rest), 0.0)


class Batch(NamedTuple):
    """What is known of a batch of which a volume is only a part, as on one of several devices.

    Attributes:
        values: of one channel.
        mean, variance: of each channel, (C,); the variance is biased.
    """

    values: float
    mean: Array
    variance: Array


def merged(batches: Sequence[Batch]) -> Batch:
    """The batch that several make together. Chan, Golub & LeVeque, eq. 2.1."""
    counts, means, variances = map(np.array, zip(*batches, strict=True))
    count = counts.sum()
    if count == 0:
        return batches[0]
    weights = (counts / count)[:, None]
    mean = (weights * means).sum(0)
    return Batch(count, mean, (weights * (variances + np.square(means - mean))).sum(0))


def forward_training(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    moving_mean: ArrayLike,
    moving_variance: ArrayLike,
    eps: float = 1e-5,
    momentum: float = 0.9,
    batch: Batch | None = None,
) -> Training:
    """Normalise by the batch and update the moving statistics.

    `momentum` weighs the old value, as in MindSpore. One value a channel has no unbiased
    variance: the moving variance stays. No value at all: both moving statistics stay.
    Without eps a constant channel, whose variance is 0, becomes beta as with it. `batch` is that
    of which x is a part; by default x is all of it.
    """
    x = _volume(x)
    count, mean, variance = batch or Batch(x.size // x.shape[1], *batch_statistics(x))
    y = apply(x, mean, _float64(gamma) * _batch_rstd(variance, eps), beta)
    moving_mean, moving_variance = _float64(moving_mean), _float64(moving_variance)
    if count > 0:
        moving_mean = momentum * moving_mean + (1 - momentum) * mean
    if count > 1:
        unbiased = variance * (count / (count - 1))
        moving_variance = momentum * moving_variance + (1 - momentum) * unbiased
    return Training(y, mean, variance, moving_mean, moving_variance)


def forward_inference(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    moving_mean: ArrayLike,
    moving_variance: ArrayLike,
    eps: float = 1e-5,
) -> Array:
    """Normalise by the moving statistics; a moving variance of 0 without eps gives NaN and Inf."""
    return apply(x, moving_mean, _float64(gamma) * _rstd(moving_variance, eps), beta)


def gradient_training(
    dy: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    eps: float = 1e-5,
    whole: tuple[float, Array, Array] | None = None,
) -> tuple[Array, Array, Array]:
    """Gradients (dx, dgamma, dbeta) of `forward_training`'s y; mean and variance are the batch's.

    Where x is a part of a batch, `whole` is (count, sum(dy), sum(dy * (x - mean))) of all of it:
    dgamma and dbeta are sums over the part.

    With r = 1/sqrt(variance + eps), 0 where that is infinite:
    dx = gamma*r * (dy - sum(dy)/n - (x - mean) * r^2 * sum(dy * (x - mean))/n).
    """
    x = _volume(x)
    count: float = x.size // x.shape[1]
    rstd = _batch_rstd(_float64(variance), eps)
    sum_dy, sum_dy_centered = grad_reduce(dy, x, mean)
    count, all_dy, all_dy_centered = whole or (count, sum_dy, sum_dy_centered)
    a = _float64(gamma) * rstd
    b = -a * np.square(rstd) * all_dy_centered / max(count, 1)
    c = -a * all_dy / max(count, 1)
    return grad_apply(dy, x, mean, a, b, c), sum_dy_centered * rstd, sum_dy


def gradient_inference(
    dy: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike,
    moving_mean: ArrayLike,
    moving_variance: ArrayLike,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """Gradients (dx, dgamma, dbeta) of `forward_inference`: the statistics are constants."""
    rstd = _rstd(moving_variance, eps)
    sum_dy, sum_dy_centered = grad_reduce(dy, x, moving_mean)
    zeros = np.zeros_like(rstd)
    dx = apply(dy, zeros, _float64(gamma) * rstd, zeros)
    return dx, sum_dy_centered * rstd, sum_dy


def _rstd(variance: ArrayLike, eps: float) -> Array:
    with np.errstate(divide="ignore"):
        return 1 / np.sqrt(_float64(variance) + eps)


def _batch_rstd(variance: Array, eps: float) -> Array:
    rstd = _rstd(variance, eps)
    return np.where(np.isinf(rstd), 0.0, rstd)


def _float64(array: ArrayLike) -> Array:
    return np.asarray(array).astype(np.float64)


def _volume(x: ArrayLike) -> Array:
    x = _float64(x)
    if x.ndim != 5:
        raise ValueError(f"a volume must have 5 dimensions (N, C, D, H, W), got shape {x.shape}")
    return x


def _per_channel(vector: ArrayLike) -> Array:
    return _float64(vector).reshape(1, -1, 1, 1, 1)
