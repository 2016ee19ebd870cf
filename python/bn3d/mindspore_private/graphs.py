"""What MindSpore has compiled in this process, and how it is dropped."""

from __future__ import annotations

import gc
import inspect
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any

import mindspore as ms
from mindspore import nn

__all__ = ["drop", "drop_of_cell", "drop_of_function", "living_cells"]

# `mindspore.common.api`, the module of the documented function that drops everything.
_api: Any = inspect.getmodule(ms.ms_memory_recycle)
_KNOWN = all(
    hasattr(_api, name) for name in ("ms_compile_cache", "_cell_graph_executor", "JitExecutor_")
)
_unreleased: set[str] = set()


def living_cells() -> list[nn.Cell]:
    """Every cell of the process."""
    return [each for each in gc.get_objects() if issubclass(type(each), nn.Cell)]


def drop(cells: Iterable[nn.Cell], reaches_loaded: Callable[[object], bool]) -> None:
    """Drop the graphs of these cells, of all that live, and of functions, so that they are compiled
    again. Their memory goes back to MindSpore at once, or, where a thread compiles or runs a graph,
    the next time.

    Args:
        cells: those that the garbage collector may not know.
        reaches_loaded: whether a cell or function uses one that was loaded from a file: that
            compiles only once, and is left alone.
    """
    _stop_reading_from_disk()
    if not _KNOWN:
        ms.ms_memory_recycle()  # what was loaded from files as well
        return
    forgotten = set(_unreleased)
    for cell in [*cells, *living_cells()]:
        if getattr(cell, "compile_cache", None) and not reaches_loaded(cell):
            forgotten |= _forgotten_by(cell)
    of_functions = _api.ms_compile_cache - _of_loaded_functions(reaches_loaded)
    forgotten |= of_functions
    _api.ms_compile_cache.difference_update(of_functions)
    _unreleased.update(forgotten)
    if not _is_in_graphs():
        _release(forgotten)


def drop_of_cell(cell: nn.Cell) -> None:
    """Drop the graphs of one cell; none of them may be running."""
    if _KNOWN:
        _release(_forgotten_by(cell))
    else:
        ms.ms_memory_recycle()


def drop_of_function(phase: str) -> None:
    """Drop the graph of a function of `mindspore.jit` by its name; it may not be running."""
    if _KNOWN:
        _api.ms_compile_cache.discard(phase)
        _release({phase})
    else:
        ms.ms_memory_recycle()


def _forgotten_by(cell: nn.Cell) -> set[str]:
    """The graphs of a cell, which it does not know any more."""
    phases = set(cell.compile_cache)
    cell.compile_cache.clear()
    cell.phase_cache.clear()
    return phases


def _of_loaded_functions(reaches_loaded: Callable[[object], bool]) -> set[str]:
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
        if phases and any(map(reaches_loaded, [function, *used])):
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
            stacklevel=5,
        )
