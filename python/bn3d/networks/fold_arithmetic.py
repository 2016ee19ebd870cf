"""The weights of a linear layer that include the batch norm after it.

With scale = gamma / sqrt(moving_variance + eps) of each channel,

    norm(W x + b) = (scale W) x + (scale (b - moving_mean) + beta)

computed in float64 and rounded once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from mindspore import Tensor, mint, nn

from bn3d.mindspore_private.cells import settings_of_operator
from bn3d.networks.torch_layers import held

__all__ = ["PRODUCERS", "Weights", "folded_weights", "nan_weights", "reason_against"]

PRODUCERS = (nn.Conv3d, nn.Conv3dTranspose, nn.Dense, mint.nn.Conv3d, mint.nn.Linear)


class Weights(NamedTuple):
    """Of a linear layer."""

    weight: Tensor
    bias: Tensor


def reason_against(norm: nn.Cell) -> str | None:
    """Why a batch norm layer has no fixed scale: it uses the statistics of its batch."""
    inner, *_, moving_mean, _ = held(norm)
    if inner is None:
        by_batch, training = True if moving_mean is None else None, norm.training
    else:
        by_batch, training = inner.use_batch_statistics, inner.training
    if by_batch:
        return "it normalises by the batch always (use_batch_statistics=True)"
    if by_batch is None and training:
        return "it is in training mode: net.set_train(False) first"
    return None


def folded_weights(producer: nn.Cell, norm: nn.Cell) -> Weights:
    """The weights with which the producer does both.

    Raises:
        ValueError: there are none, and why.
    """
    gamma, beta, mean, variance, eps = _numbers(norm)
    channels, outputs = len(mean), _outputs(producer)
    like_bias = producer.weight if producer.bias is None else producer.bias
    if outputs % channels or (outputs != channels and producer.weight.ndim != 2):
        raise ValueError(f"it has {channels} channels, the layer before it gives {outputs}")
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(variance + eps)
        # Features of a Dense are reshaped to (C, D, H, W): C varies slowest.
        scale, beta, mean = (np.repeat(each, outputs // channels) for each in (scale, beta, mean))
        bias = 0.0 if producer.bias is None else _float64(producer.bias)
        found = Weights(
            _rounded(_scaled(producer, scale), producer.weight),
            _rounded((bias - mean) * scale + beta, like_bias),
        )
    if not all(np.isfinite(_float64(each)).all() for each in found):
        raise ValueError(f"the folded weights would not be finite in {producer.weight.dtype}")
    return found


def nan_weights(producer: nn.Cell) -> Weights:
    """NaN in the shapes of folded weights."""
    like_bias = producer.weight if producer.bias is None else producer.bias
    return Weights(
        _rounded(np.full(producer.weight.shape, np.nan), producer.weight),
        _rounded(np.full(_outputs(producer), np.nan), like_bias),
    )


def _numbers(norm: nn.Cell) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """Gamma, beta, mean and variance in float64, and eps."""
    inner, gamma, beta, *statistics = held(norm)
    mean, variance = map(_float64, statistics)
    return (
        np.ones_like(mean) if gamma is None else _float64(gamma),
        np.zeros_like(mean) if beta is None else _float64(beta),
        mean,
        variance,
        float(norm.eps) if inner is None else settings_of_operator(inner)[0],
    )


def _outputs(producer: nn.Cell) -> int:
    names = ("out_channels", "out_features")
    return next(getattr(producer, name) for name in names if hasattr(producer, name))


def _scaled(producer: nn.Cell, scale: np.ndarray) -> np.ndarray:
    """The kernel with each output channel multiplied."""
    weight = _float64(producer.weight)
    if not isinstance(producer, nn.Conv3dTranspose):  # (outputs, inputs / groups, ...)
        return weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    # (inputs, outputs / groups, ...), the inputs of one group after those of another
    groups = producer.group
    by_group = weight.reshape(groups, -1, *weight.shape[1:])
    by_group = by_group * scale.reshape(groups, 1, -1, *(1,) * (weight.ndim - 2))
    return by_group.reshape(weight.shape)


def _float64(tensor: Tensor) -> np.ndarray:
    return tensor.asnumpy().astype(np.float64)


def _rounded(values: np.ndarray, like: Tensor) -> Tensor:
    """Values in the dtype of a tensor."""
    dtype = like.asnumpy().dtype
    if dtype.itemsize == 2 and dtype != np.float16:
        # NumPy rounds to bfloat16 by way of float32, twice: keep only the 8 bits it holds.
        fraction, exponent = np.frexp(values)
        values = np.ldexp(np.rint(fraction * 256) / 256, exponent)
    return Tensor(values.astype(dtype))
