"""Tensors of a compute graph, and their values in NumPy, rounded at every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from rounding import rounded


@dataclass(frozen=True, eq=False)
class Tensor:
    """A node. `kind` is placeholder, cast, elementwise, broadcast or reduce."""

    shape: tuple[int, ...]
    dtype: str
    kind: str
    name: str = ""
    sources: tuple[Tensor, ...] = ()
    function: Callable = field(default=None, repr=False)


def evaluate(outputs, feed):
    """Values of `outputs`, from an array for each placeholder; bfloat16 is held in float32."""
    values = {id(tensor): rounded(array, tensor.dtype) for tensor, array in feed.items()}

    def value(tensor):
        if id(tensor) not in values:
            with np.errstate(over="ignore"):  # float16 overflows to inf, as on the device
                array = tensor.function(*(value(source) for source in tensor.sources))
                values[id(tensor)] = rounded(array, tensor.dtype)
            assert values[id(tensor)].shape == tensor.shape, tensor
        return values[id(tensor)]

    return [value(tensor) for tensor in outputs]


def ancestors(outputs):
    """Every tensor that the outputs are made of, themselves included."""
    seen, todo = {}, list(outputs)
    while todo:
        tensor = todo.pop()
        if id(tensor) not in seen:
            seen[id(tensor)] = tensor
            todo += tensor.sources
    return list(seen.values())
