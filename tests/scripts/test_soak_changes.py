"""Some rounds of `scripts/soak_changes.py`, by the count of graphs that MindSpore holds: memory
tells only after hundreds.
"""

import importlib.util
import inspect
import sys
from pathlib import Path

import mindspore as ms
import pytest
from mindspore import nn

import bn3d

SCRIPT = Path(__file__).parents[2] / "scripts/soak_changes.py"
ROUNDS = 2
CHANGES = (bn3d.swap, bn3d.freeze, bn3d.unfreeze, bn3d.restore)


@pytest.fixture
def soak(monkeypatch):
    spec = importlib.util.spec_from_file_location("soak_changes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # for MindSpore's parser
    spec.loader.exec_module(module)
    yield module
    ms.set_context(mode=ms.PYNATIVE_MODE)


API = inspect.getmodule(ms.ms_memory_recycle)


def is_held(phase):
    executors = API._cell_graph_executor, API.JitExecutor_.get_instance()
    return any(executor.has_compiled(phase) for executor in executors)


def graphs_held():
    """The phases of all graphs that MindSpore holds in this process."""
    return set(
        filter(is_held, set().union(API.ms_compile_cache, *API.cells_compile_cache.values()))
    )


@pytest.mark.parametrize("kind", ["cell", "function"])
def test_graphs_that_are_dropped_are_released(soak, kind):
    ms.set_context(mode=ms.GRAPH_MODE if kind == "cell" else ms.PYNATIVE_MODE)
    net = nn.SequentialCell([soak.Block()]).set_train()
    run = soak.runner(kind, net)
    of_other_tests = graphs_held()  # such as those that GraphCell loaded, which stay
    for change in CHANGES * ROUNDS:
        run()
        held = graphs_held() - of_other_tests
        assert held
        change(net)
        assert not any(map(is_held, held))
