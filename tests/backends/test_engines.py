"""Which of its engines MindSpore is told to launch the operators with."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from backends import standin
from bn3d import BatchNorm3d
from bn3d.mindspore_private import compilations

KERNEL_BY_KERNEL = ("O0", "ms_backend")


@pytest.fixture(autouse=True)
def pynative(monkeypatch):
    before = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    yield
    ms.set_context(mode=before)


@pytest.fixture
def engines(monkeypatch):
    """(jit_level, backend) of all that is compiled: of cells, of functions of `mindspore.jit`."""
    found: dict[str, list] = {"cells": [], "functions": []}
    for owner, kind in ((nn.Cell, "cells"), (compilations._jit_executor, "functions")):

        def compile(self, *args, original=owner.compile, seen=found[kind], **kwargs):
            config = self.jit_config_dict or {}
            seen.append((config.get("jit_level"), config.get("backend")))
            return original(self, *args, **kwargs)

        monkeypatch.setattr(owner, "compile", compile)
    return found


def volume(size=6):
    return ms.Tensor(np.random.default_rng(1).normal(1, 1, (2, 3, 4, 5, size)).astype(np.float32))


def test_pynative_mode_launches_kernel_by_kernel(ascend, monkeypatch, engines):
    """Left to itself MindSpore 2.7.0 takes the graph engine on ascend910."""
    standin.use(ascend, monkeypatch)
    layer = BatchNorm3d(3).set_train()
    standin.Gradient(layer)(volume(), volume())
    layer.set_train(False)(volume())
    assert len(engines["functions"]) >= 2
    assert set(engines["functions"]) == {KERNEL_BY_KERNEL}
