"""Every way in which a layer may compute, whatever there is on this machine."""

from __future__ import annotations

import dataclasses

import pytest
from mindspore import ops

from backends import standin
from bn3d.backends import native, split, synchronised
from bn3d.backends.process_groups import Membership
from support.cpu_backends import CPU_BACKENDS


@pytest.fixture(params=[*CPU_BACKENDS, "ascend", "synchronised"])
def way(request, monkeypatch):
    """Runs a test with each backend; the last two in the way of other devices."""
    if request.param in CPU_BACKENDS:
        monkeypatch.setenv("BN3D_BACKEND", request.param)
    elif request.param == "ascend":
        standin.use(standin.ascend_on_cpu(monkeypatch), monkeypatch)
    else:
        monkeypatch.setattr(synchronised.ops, "AllReduce", lambda *_: ops.Identity())
        membership = Membership("of 1", 1, 0)
        functions = synchronised.build.__wrapped__(native.BACKEND, membership)
        functions = functions._asdict()
        backend = dataclasses.replace(native.BACKEND, settings=split.settings, **functions)
        standin.use(backend, monkeypatch)
    return request.param
