"""The layer against the judge: training, inference and their gradients."""

from __future__ import annotations

from collections.abc import Iterator

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from bn3d import reference
from bn3d.commands.verify.check import Case, Check, compare
from bn3d.commands.verify.operators import rounded
from bn3d.layers.batch_norm import BatchNorm3d

__all__ = ["check_layer"]

_AXES = (0, 2, 3, 4)


class _Loss(nn.Cell):
    """(x, dy) -> a loss whose gradient towards y is dy, and y.

    Not `mindspore.vjp`: that of MindSpore 2.7.0 runs the layer twice in PyNative mode, which
    updates the moving statistics twice, stock's as well.
    """

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def construct(self, x, dy):
        y = self.layer(x)
        return ops.reduce_sum(ops.cast(y, ms.float32) * ops.cast(dy, ms.float32)), y


def check_layer(case: Case, mean: float, training: bool) -> Iterator[Check]:
    """Compare one step: y, the moving statistics and the gradients.

    Args:
        case: of x.
        mean: of x, whose standard deviation is 1; the moving mean is 0.
        training: by the batch, or by the moving statistics.
    """
    subject = f"layer, {'training' if training else 'inference'}, mean {mean:g}"
    random = np.random.default_rng([*case.shape, training])
    channels = case.shape[1]
    x = rounded(random.normal(mean, 1.0, case.shape), case.dtype)
    dy = rounded(random.normal(0.0, 1.0, case.shape), case.dtype)
    gamma, beta = random.normal(1.0, 0.3, (2, channels)).astype(np.float32)
    moving = np.zeros(channels), np.ones(channels)

    layer = BatchNorm3d(channels, gamma_init=ms.Tensor(gamma), beta_init=ms.Tensor(beta))
    loss = _Loss(layer).set_train(training)
    gradient = ms.value_and_grad(loss, 0, layer.trainable_params(), has_aux=True)
    dtype = getattr(ms, case.dtype)
    (_, y), (dx, (dgamma, dbeta)) = gradient(ms.Tensor(x, dtype), ms.Tensor(dy, dtype))

    if training:
        wanted = reference.forward_training(x, gamma, beta, *moving)
        mean_vector, variance = wanted.mean, wanted.variance
        gradients = reference.gradient_training(dy, x, gamma, mean_vector, variance)
        wanted_y, wanted_moving = wanted.y, (wanted.moving_mean, wanted.moving_variance)
    else:
        mean_vector, variance = moving
        gradients = reference.gradient_inference(dy, x, gamma, *moving)
        wanted_y, wanted_moving = reference.forward_inference(x, gamma, beta, *moving), moving

    rstd = 1 / np.sqrt(variance + 1e-5)
    normalized = np.abs(x - mean_vector.reshape(1, -1, 1, 1, 1)) * rstd.reshape(1, -1, 1, 1, 1)
    scale_dx = np.abs(gamma * rstd).max() * np.abs(dy).max()
    yield compare(subject, "y", case, y, wanted_y, np.abs(wanted_y).max())
    yield compare(subject, "dx", case, dx, gradients[0], scale_dx)
    scale = (np.abs(dy) * normalized).sum(_AXES)
    yield compare(subject, "dgamma", case, dgamma, gradients[1], np.maximum(scale, 1e-6))
    yield compare(subject, "dbeta", case, dbeta, gradients[2], np.abs(dy).sum(_AXES))
    names = ("moving_mean", "moving_variance")
    for name, want in zip(names, wanted_moving, strict=True):
        got = ops.cast(getattr(layer.bn2d, name), ms.float32)
        yield compare(subject, name, case, got, want, np.maximum(np.abs(want), 1))
