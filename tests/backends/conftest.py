from __future__ import annotations

import mindspore as ms
import pytest

from backends import standin


@pytest.fixture(scope="session")
def ascend():
    """The Ascend backend over the CPU's operators."""
    with pytest.MonkeyPatch.context() as patch:
        yield standin.ascend_on_cpu(patch)


@pytest.fixture(params=["PYNATIVE_MODE", "GRAPH_MODE"])
def mode(request):
    """Both modes; in PyNative mode the Ascend backend compiles what calls the operators."""
    before = ms.get_context("mode")
    ms.set_context(mode=getattr(ms, request.param))
    yield request.param
    ms.set_context(mode=before)
