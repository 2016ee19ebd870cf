"""What the tests share: both execution modes, seeded volumes, one place for tolerances."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore.common.api import _pynative_executor

import bn3d
import bn3d.backends
from bn3d import convolutions
from support.cpu_backends import CPU_BACKENDS

convolutions.use_fast()  # before MindSpore computes; child processes have it from here

MODES = {"pynative": ms.PYNATIVE_MODE, "graph": ms.GRAPH_MODE}


# Few tests that take long: half a minute or more.
LONG = {
    *("test_alternatives.py", "test_ascend.py", "test_bad_places.py", "test_bench.py"),
    *("test_folding_networks.py", "test_folding_restores.py", "test_interrupts.py"),
    *("test_long_commands.py", "test_native_driver.py", "test_verify.py"),
}


def pytest_collection_modifyitems(items):
    """Long files first, those of few tests last: two processes take files in this order, and one
    that began a long one at the end would keep the other waiting.
    """
    tests = Counter(item.path for item in items)
    items.sort(
        key=lambda item: (item.path.name not in LONG, -tests[item.path], item.path.as_posix())
    )


@pytest.fixture(params=MODES)
def mode(request):
    """Runs a test in PyNative and in graph mode."""
    ms.set_context(mode=MODES[request.param])
    yield request.param
    ms.set_context(mode=ms.PYNATIVE_MODE)


@pytest.fixture(params=CPU_BACKENDS)
def backend(request, monkeypatch):
    """Runs a test with each backend of a CPU."""
    monkeypatch.setenv(bn3d.backends.ENVIRONMENT_VARIABLE, request.param)
    return request.param


@pytest.fixture(autouse=True)
def no_gradient_left_open():
    """An error in a second derivative leaves MindSpore recording: x[0] is a TypeError then."""
    yield
    _pynative_executor.clear_res()


@pytest.fixture
def rng():
    return np.random.default_rng(20240501)


@pytest.fixture
def child_environment():
    """Environment of a Python that is to find the bn3d under test."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(p).parent) for p in bn3d.__path__)}
