"""`bn3d.fold` on networks of real depth: how much is folded, and what they give then."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest

import bn3d
from bn3d.networks.values import arrays
from support.deep_networks import DEEP
from support.folding import randomized, volume


@pytest.mark.parametrize("name", DEEP)
def test_a_deep_network(name):
    deep = DEEP[name]
    ms.set_seed(0)
    net, x = randomized(deep.build()), volume(deep.shape)
    bn3d.swap(net)
    wanted = list(arrays(net(x)))
    report = bn3d.fold(net, x)
    assert (len(report.folded), len(report.left)) == (deep.folded, deep.norms - deep.folded)
    measured = 0
    for got, want in zip(arrays(net(x)), wanted, strict=True):
        measured = max(measured, np.abs(got - want).max() / np.abs(want).max())
    assert measured == pytest.approx(report.error, rel=0.5)
    assert measured < 1e-5
    assert len(list(arrays([p for p in net.get_parameters() if "moving" in p.name]))) == 2 * (
        deep.norms - deep.folded
    )
