"""The cells of a network, all that it can reach, and what MindSpore compiled of them."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Iterator

import mindspore
from mindspore import nn

__all__ = ["cells", "check_net", "forget_compiled"]


def check_net(net: object) -> None:
    """Raise TypeError for an argument 'net' that is no Cell."""
    if not isinstance(net, nn.Cell):
        raise TypeError(f"'net' must be a mindspore.nn.Cell, got {type(net).__name__}")


def cells(net: nn.Cell) -> Iterator[tuple[str, nn.Cell]]:
    """Every cell that the network can reach, once: sub-cells, and cells in the lists,
    tuples and dictionaries that are attributes of them.
    """
    seen: set[int] = set()

    def walk(name: str, value: object) -> Iterator[tuple[str, nn.Cell]]:
        if id(value) in seen:
            return
        if isinstance(value, nn.Cell):
            seen.add(id(value))
            yield name, value
            # Attributes first that are cells, then what cells may hide in.
            children = {**value._cells, **value.__dict__}
            for key, child in children.items():
                if key not in ("_cells", "_params"):
                    yield from walk(f"{name}.{key}" if name else key, child)
        elif isinstance(value, dict):
            seen.add(id(value))
            for key, child in value.items():
                yield from walk(f"{name}.{key}", child)
        elif isinstance(value, list | tuple):
            seen.add(id(value))
            for index, child in enumerate(value):
                yield from walk(f"{name}.{index}", child)

    yield from walk("", net)


def forget_compiled(net: nn.Cell) -> None:
    """Let the graphs that run these cells be compiled again.

    Those of a training step around the network, or of a function, cannot be told from others
    from here, and would go on with what the cells were. So all graphs of the process are
    dropped, but those of cells loaded from a file: they compile only once.
    """
    living = [each for each in gc.get_objects() if issubclass(type(each), nn.Cell)]
    for cell in [*(cell for _, cell in cells(net)), *living]:
        compiled = getattr(cell, "compile_cache", None)
        if compiled and not any(isinstance(inner, nn.GraphCell) for _, inner in cells(cell)):
            compiled.clear()
    # Those of functions. mindspore.ms_memory_recycle() would drop loaded ones as well.
    inspect.getmodule(mindspore.ms_memory_recycle).ms_compile_cache.clear()
