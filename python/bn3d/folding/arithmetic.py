"""The weights of a linear layer with the batch norm after it in them.

With scale = gamma / sqrt(moving_variance + eps) of each channel,

    norm(W x + b) = (scale W) x + (scale (b - moving_mean) + beta)

computed in float64 and rounded once.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, nn, ops

from bn3d.cell_state import fixed_settings

__all__ = ["PRODUCERS", "Folded", "fold_into"]

PRODUCERS = (nn.Conv3d, nn.Conv3dTranspose, nn.Dense)


class Folded(nn.Cell):
    """What is left of a batch norm layer that was folded: the identity."""

    def construct(self, x):
        return x


def fold_into(producer: nn.Cell, norm: nn.Cell) -> str | None:
    """Give the producer the weights that do both; or say why not, and change nothing."""
    bn = norm.bn2d
    channels, outputs = bn.num_features, producer.out_channels
    if outputs % channels or (outputs != channels and not isinstance(producer, nn.Dense)):
        return f"it has {channels} channels, the layer before it gives {outputs}"
    eps, _ = fixed_settings(norm)
    gamma, beta, mean, variance = (
        p.asnumpy().astype(np.float64)
        for p in (bn.gamma, bn.beta, bn.moving_mean, bn.moving_variance)
    )
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(variance + eps)
        # Features of a Dense are reshaped to (C, D, H, W): C varies slowest.
        scale, beta, mean = (np.repeat(each, outputs // channels) for each in (scale, beta, mean))
        bias = 0.0 if producer.bias is None else producer.bias.asnumpy().astype(np.float64)
        new_weight = _scaled(producer, scale)
        new_bias = (bias - mean) * scale + beta
        dtype = producer.weight.dtype
        rounded = [
            ms.Tensor(each.astype(np.float32)).astype(dtype) for each in (new_weight, new_bias)
        ]
    if not all(np.isfinite(each.astype(ms.float32).asnumpy()).all() for each in rounded):
        return f"the folded weights would not be finite in {dtype}"
    producer.weight.set_data(rounded[0])
    if producer.bias is not None:
        producer.bias.set_data(rounded[1].astype(producer.bias.dtype))
        return None
    prefix = producer.weight.name.removesuffix("weight")
    producer.bias = Parameter(rounded[1], name=f"{prefix}bias")
    producer.has_bias = True
    if isinstance(producer, nn.Dense):
        producer.bias_add = ops.BiasAdd()
    return None


def _scaled(producer: nn.Cell, scale: np.ndarray) -> np.ndarray:
    """The kernel with each output channel multiplied."""
    weight = producer.weight.asnumpy().astype(np.float64)
    if not isinstance(producer, nn.Conv3dTranspose):  # (outputs, inputs / groups, ...)
        return weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    # (inputs, outputs / groups, ...), the inputs of one group after those of another
    groups = producer.group
    by_group = weight.reshape(groups, -1, *weight.shape[1:])
    by_group = by_group * scale.reshape(groups, 1, -1, *(1,) * (weight.ndim - 2))
    return by_group.reshape(weight.shape)
