"""The cells of a network, all that it can reach, and what MindSpore compiled of them."""

from __future__ import annotations

import gc
import inspect
import os
import sys
import traceback
import warnings
from types import FunctionType

import mindspore as ms
from mindspore import nn

from bn3d.networks.reachable import cells

__all__ = ["cells", "check_net", "forget_compiled", "living_cells"]

_api = inspect.getmodule(ms.ms_memory_recycle)
_unreleased: set[str] = set()


def check_net(net: object) -> None:
    """Raise TypeError for an argument 'net' that is no Cell."""
    if not isinstance(net, nn.Cell):
        raise TypeError(f"'net' must be a mindspore.nn.Cell, got {type(net).__name__}")


def living_cells() -> list[nn.Cell]:
    """Every cell of the process."""
    return [each for each in gc.get_objects() if issubclass(type(each), nn.Cell)]


def forget_compiled(net: nn.Cell) -> None:
    """Let the graphs that run these cells be compiled again.

    Those of a training step around the network, or of a function, cannot be told from others
    from here, and would go on with what the cells were. So all graphs of the process are
    dropped, but those of cells loaded from a file: they compile only once. Their memory goes
    back to MindSpore, unless a thread is within MindSpore's calls of graphs: then at the next
    time.

    Warns where MindSpore keeps graphs on disk: it takes those of an earlier run whatever the
    cells are now, so that is switched off for the rest of the process.
    """
    _stop_reading_from_disk()
    forgotten = set(_unreleased)
    for cell in [*(cell for _, cell in cells(net)), *living_cells()]:
        if not getattr(cell, "compile_cache", None):
            continue
        if not _has_loaded(cell):
            forgotten |= cell.compile_cache
            cell.compile_cache.clear()
            cell.phase_cache.clear()
    # Those of functions. mindspore.ms_memory_recycle() would drop loaded ones as well.
    of_functions = _api.ms_compile_cache - _of_loaded_functions()
    forgotten |= of_functions
    _api.ms_compile_cache.difference_update(of_functions)
    _unreleased.update(forgotten)
    if not _is_in_graphs():
        _release(forgotten)


def _has_loaded(value: object) -> bool:
    return any(isinstance(inner, nn.GraphCell) for _, inner in cells(value))


def _of_loaded_functions() -> set[str]:
    """The graphs of functions that use a cell loaded from a file. A graph has the function's
    place in its name.
    """
    if not any(isinstance(cell, nn.GraphCell) for cell in living_cells()):
        return set()
    found = set()
    for function in gc.get_objects():
        if type(function) is not FunctionType:
            continue
        code = function.__code__
        place = f"{function.__module__}.{code.co_name}.{code.co_filename}.{code.co_firstlineno}."
        phases = {phase for phase in _api.ms_compile_cache if place in phase}
        used = [function.__globals__.get(name) for name in code.co_names] if phases else []
        if phases and any(map(_has_loaded, [function, *used])):
            found |= phases
    return found


def _release(phases: set[str]) -> None:
    """Give back the memory of graphs that nobody refers to any more. One that is gone already is
    passed over by MindSpore.
    """
    for executor in (_api._cell_graph_executor, _api.JitExecutor_.get_instance()):
        executor.del_net_res(None, phases)
    _unreleased.difference_update(phases)


def _is_in_graphs() -> bool:
    """Whether some thread compiles or runs a graph, or is in a gradient of PyNative mode."""
    return any(
        frame.f_globals.get("__name__") == _api.__name__
        for innermost in sys._current_frames().values()
        for frame, _ in traceback.walk_stack(innermost)
    )


def _stop_reading_from_disk() -> None:
    reading = ms.get_context("enable_compile_cache")
    if reading is None:
        reading = os.environ.get("MS_COMPILER_CACHE_ENABLE") == "1"
    if reading:
        ms.set_context(enable_compile_cache=False)
        warnings.warn(
            "bn3d switches MindSpore's compile cache on disk (enable_compile_cache, "
            "MS_COMPILER_CACHE_ENABLE) off for this process: it would go on with the graphs of an "
            "earlier run, whatever the layers of the network are now",
            stacklevel=4,
        )
