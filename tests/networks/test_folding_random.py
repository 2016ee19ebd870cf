"""`bn3d.fold` of random networks: what may be folded is, nothing else is, and no output changes.

BN3D_RANDOM_NETWORKS says how many; 200 take some minutes.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

import bn3d
from bn3d.networks.values import arrays
from support.random_networks import RandomNetwork, volume

NUMBER = int(os.environ.get("BN3D_RANDOM_NETWORKS", "12"))


@pytest.mark.parametrize("seed", range(NUMBER))
def test_a_random_network(seed):
    net = RandomNetwork(seed)
    inputs = volume(seed), volume(seed + 1)  # the second is not what is proven, but no other way
    wanted = [list(arrays(net(x))) for x in inputs]
    report = bn3d.fold(net, inputs[0])
    for x, want in zip(inputs, wanted, strict=True):
        for a, b in zip(arrays(net(x)), want, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * np.abs(b).max())
    assert set(report.folded) == net.may_be_folded, f"{net}: {report}"
