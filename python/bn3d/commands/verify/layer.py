"""The layer against the judge: training, inference and their gradients."""

from __future__ import annotations

from collections.abc import Iterator

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from bn3d.commands.verify.check import Case, Check, compare
from bn3d.commands.verify.operators import rounded
from bn3d.layers.batch_norm import BatchNorm3d
from bn3d.layers.state import fixed_settings
from bn3d.networks.judging import State, judge, judge_gradient

__all__ = ["check_layer"]


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
    x = rounded(random.normal(mean, 1.0, case.shape), case.dtype).astype(np.float64)
    dy = rounded(random.normal(0.0, 1.0, case.shape), case.dtype).astype(np.float64)
    affine = random.normal(1.0, 0.3, (2, channels)).astype(np.float32)
    gamma, beta = affine.astype(np.float64)
    moving = np.zeros(channels), np.ones(channels)

    gamma_init, beta_init = map(ms.Tensor, affine)
    layer = BatchNorm3d(channels, gamma_init=gamma_init, beta_init=beta_init)
    loss = _Loss(layer).set_train(training)
    gradient = ms.value_and_grad(loss, 0, layer.trainable_params(), has_aux=True)
    dtype = getattr(ms, case.dtype)
    (_, y), (dx, (dgamma, dbeta)) = gradient(ms.Tensor(x, dtype), ms.Tensor(dy, dtype))

    eps, momentum = fixed_settings(layer)
    state = State(gamma, beta, *moving, eps, momentum, by_batch=training, updates=training)
    judged = judge(x, state)
    yield compare(subject, "y", case, y, *judged.y)
    gradients = {"dx": dx, "dgamma": dgamma, "dbeta": dbeta}
    for name, want in judge_gradient(dy, x, state, judged.statistics).items():
        yield compare(subject, name, case, gradients[name], *want)
    for name in ("moving_mean", "moving_variance"):
        yield compare(subject, name, case, getattr(layer.bn2d, name), *getattr(judged, name))
