"""Operators that Python computes, called by the native library wherever MindSpore runs them.

`mindspore.ops.Custom(func_type="pyfunc")` is meant for this. In graphs of MindSpore 2.10 it takes
no bfloat16, copies as many bytes as the first shape had where a shape is known only as the graph
runs, and ends the process where a dtype is. Operators of a library do none of this.

Importing this module raises what `bn3d.backends.native` does.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from ctypes import POINTER, c_char, c_char_p, c_int, c_int64, c_void_p
from typing import Any, NamedTuple

import numpy as np
from mindspore import ops

from bn3d.backends import library, native

__all__ = ["custom"]

_Compute = ctypes.CFUNCTYPE(
    c_int, c_char_p, c_int, POINTER(c_void_p), POINTER(c_int), POINTER(POINTER(c_int64)),
    POINTER(c_char_p), POINTER(c_char), c_int,
)  # fmt: skip


class _InPython(NamedTuple):
    """What computes an operator: a function of the first tensors, as many as there are `inputs`;
    the numbers of the tensors that its results are written to.
    """

    function: Callable
    inputs: int
    writes: tuple[int, ...]


_in_python: dict[bytes, _InPython] = {}


def custom(
    name: str,
    function: Callable,
    inputs: str,
    outputs: str,
    changes: tuple[int, ...] = (),
    **arguments: Any,
) -> ops.Custom:
    """An operator of the library that Python computes.

    Args:
        name: of the operator.
        function: of arrays, the inputs; returns the outputs, which are rounded to their dtypes.
            bfloat16 is float32 to it. It runs in the default floating-point environment.
        inputs: their names, separated by blanks.
        outputs: the same.
        changes: which inputs the function returns anew after its outputs.
        arguments: for `native.custom`.
    """
    count = len(inputs.split())
    writes = (*range(count, count + len(outputs.split())), *changes)
    _in_python[name.encode()] = _InPython(function, count, writes)
    return native.custom(name, inputs, outputs, **arguments)


@_Compute
def _call(name, count, params, ndims, shapes, dtypes, message, size):
    try:
        function, inputs, writes = _in_python[name]
        tensors = [
            (_memory(params[i], tuple(shapes[i][: ndims[i]]), dtypes[i].decode()), dtypes[i])
            for i in range(count)
        ]
        arrays = [_decoded(*tensor) for tensor in tensors[:inputs]]
        with np.errstate(all="ignore"):
            for i, result in zip(writes, function(*arrays), strict=True):
                memory, dtype = tensors[i]
                memory[...] = _bfloat16(result) if dtype == b"bfloat16" else result
    except BaseException as error:  # it cannot pass through the library
        text = f"{type(error).__name__}: {error}".encode()[: size - 1] + b"\0"
        ctypes.memmove(message, text, len(text))
        return 1
    return 0


def _memory(address, shape, dtype):
    """A tensor as it lies there; of bfloat16 its bits."""
    dtype = np.dtype("uint16" if dtype == "bfloat16" else dtype)
    if not math.prod(shape):
        return np.empty(shape, dtype)
    buffer = (c_char * (math.prod(shape) * dtype.itemsize)).from_address(address)
    return np.frombuffer(buffer, dtype).reshape(shape)


def _decoded(memory, dtype):
    if dtype != b"bfloat16":
        return memory
    return (memory.astype(np.uint32) << 16).view(np.float32)


def _bfloat16(values):
    """The bits of values rounded to bfloat16, the nearest, ties to even."""
    values = np.asarray(values, np.float32)
    bits = values.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)


library.load().handle.bn3d_compute_in_python(_call)
