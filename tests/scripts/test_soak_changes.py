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


@pytest.mark.parametrize("kind", ["cell", "function"])
def test_graphs_that_are_dropped_are_released(soak, kind):
    api = inspect.getmodule(ms.ms_memory_recycle)
    executors = api._cell_graph_executor, api.JitExecutor_.get_instance()
    ms.set_context(mode=ms.GRAPH_MODE if kind == "cell" else ms.PYNATIVE_MODE)
    net = nn.SequentialCell([soak.Block()]).set_train()
    run = soak.runner(kind, net)
    for change in CHANGES * ROUNDS:
        run()
        phases = set().union(api.ms_compile_cache, *api.cells_compile_cache.values())
        held = [phase for phase in phases if any(e.has_compiled(phase) for e in executors)]
        assert held != []
        change(net)
        assert [phase for phase in held if any(e.has_compiled(phase) for e in executors)] == []
