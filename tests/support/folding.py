"""Networks and inputs for the tests of `bn3d.fold`, and what each of those tests compares."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import nn

import bn3d
from bn3d.networks.values import arrays

SHAPE = (2, 2, 4, 4, 4)


def randomized(net, seed=0):
    """Batch norm parameters and statistics that are not just 1 and 0; evaluation mode."""
    rng = np.random.default_rng(seed)
    for name, p in net.parameters_and_names():
        if name.endswith(("gamma", "variance", "running_var", "bn.weight")):
            p.set_data(ms.Tensor(rng.uniform(0.5, 2, p.shape), p.dtype))
        elif p.ndim == 1:
            p.set_data(ms.Tensor(rng.uniform(-1, 1, p.shape), p.dtype))
    return net.set_train(False)


def volume(shape=SHAPE, seed=0):
    return ms.Tensor(np.random.default_rng(seed).normal(0.3, 1, shape).astype(np.float32))


def assert_folded_alike(net, x, tolerance=1e-5):
    """Fold; the output stays the same, whatever the report says. Gives the report."""
    wanted = list(arrays(net(x)))
    report = bn3d.fold(net, x)
    for got, want in zip(arrays(net(x)), wanted, strict=True):
        atol = tolerance * max(1, np.abs(want).max())
        np.testing.assert_allclose(got, want, rtol=0, atol=atol)
    return report


class Base(nn.Cell):
    """Layers that keep the shape, so that they can be added."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv3d(2, 2, 3), bn3d.BatchNorm3d(2)
        self.relu = nn.ReLU()
        self.build()

    def build(self):
        """Give a network what it has besides."""

    def construct(self, x):
        return self.bn(self.conv(x))
