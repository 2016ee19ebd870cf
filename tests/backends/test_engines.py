"""Which of its engines MindSpore is told to launch the operators with."""

from __future__ import annotations

import dataclasses

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

import bn3d
from backends import standin
from bn3d import BatchNorm3d
from bn3d.mindspore_private import compilations

KERNEL_BY_KERNEL = ("O0", "ms_backend")
UNSET = ("", None)  # by documents of MindSpore the graph engine on ascend910
OPERATORS = 4


@pytest.fixture(autouse=True)
def pynative():
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
            seen.append((config.get("jit_level", ""), config.get("backend")))
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


def test_pynative_mode_tries_as_it_launches(ascend, monkeypatch, engines):
    standin.use(ascend, monkeypatch)
    BatchNorm3d(3).set_train()(volume(7))
    assert engines["cells"] == [KERNEL_BY_KERNEL] * OPERATORS


def test_a_graph_tries_on_its_own_engine(ascend, monkeypatch, engines):
    """Once on each: an operator may fail in one of them alone."""
    ms.set_context(mode=ms.GRAPH_MODE)
    standin.use(ascend, monkeypatch)
    layers = [BatchNorm3d(3).set_train() for _ in range(4)]
    for layer in layers[2:]:
        layer.set_jit_config(ms.JitConfig("O0"))
    for layer in layers:
        layer(volume(8))
    trials = [UNSET] * OPERATORS, [KERNEL_BY_KERNEL] * OPERATORS
    assert engines["cells"] == [
        *(UNSET, *trials[0], UNSET),
        *(KERNEL_BY_KERNEL, *trials[1], KERNEL_BY_KERNEL),
    ]


def test_a_function_tries_on_its_own_engine(ascend, monkeypatch, engines):
    standin.use(ascend, monkeypatch)
    layer = BatchNorm3d(3).set_train()
    ms.jit(layer.construct, jit_level="O1", backend="ms_backend")(volume(9))
    assert engines["cells"] == [("O1", "ms_backend")] * OPERATORS


@pytest.mark.parametrize(
    ("mode", "engine"), [("PYNATIVE_MODE", KERNEL_BY_KERNEL), ("GRAPH_MODE", UNSET)]
)
def test_probes_run_as_layers_would(ascend, monkeypatch, engines, mode, engine):
    ms.set_context(mode=getattr(ms, mode))
    standin.use(dataclasses.replace(ascend, dtypes=("float32",)), monkeypatch)
    assert bn3d.info(probe=True).ok
    assert set(engines["cells"]) == {engine}
