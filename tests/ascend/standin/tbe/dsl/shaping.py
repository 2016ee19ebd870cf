"""Casts, broadcasts and reductions."""

from math import prod

import numpy as np

from tbe.common.platform import supports
from tbe.dsl.arithmetic import check_dtype
from tbe.errors import require
from tbe.graph import Tensor

CASTS = ("float16", "float32", "bfloat16", "int32", "int16", "int8", "uint8", "int64")
DEFAULT_DTYPE = {float: "float16", int: "int32"}


def cast_to(data, dtype):
    return _cast("cast_to", data, dtype)


def round(raw_tensor, dtype="int32"):
    return _cast("round", raw_tensor, dtype)


def _cast(name, data, dtype):
    require(isinstance(data, Tensor), "E90001", f"{name} takes a tensor, got {data!r}")
    if data.dtype == dtype:
        return data
    require(dtype in CASTS, "E90001", f"{name} knows no dtype {dtype}")
    bfloat16 = "bfloat16" in (data.dtype, dtype)
    allowed = not bfloat16 or supports("bfloat16", "bfloat16")
    require(allowed, "E90002", f"{name}: no {data.dtype} to {dtype} on this SoC")
    return Tensor(data.shape, dtype, "cast", "", (data,), lambda x: x)


def broadcast(var, shape, output_dtype=None):
    shape = tuple(int(size) for size in shape)
    if not isinstance(var, Tensor):
        dtype = output_dtype or DEFAULT_DTYPE[type(var)]
        return Tensor(shape, dtype, "broadcast", "", (), lambda: np.full(shape, var))
    check_dtype("broadcast", var)
    short = len(shape) - len(var.shape)
    require(short >= 0, "E90001", f"broadcast from {var.shape} to {shape}: of lower rank")
    for have, want in zip(var.shape, shape[short:], strict=True):
        require(have in (1, want), "E90001", f"broadcast from {var.shape} to {shape}")
    if (1,) * short + var.shape == shape:
        return var  # as the real one, which returns even a tensor of lower rank
    return Tensor(shape, var.dtype, "broadcast", "", (var,), lambda x: np.broadcast_to(x, shape))


def reduce_sum(raw_tensor, axis, keepdims=False):
    check_dtype("reduce_sum", raw_tensor)
    axes = _axes("reduce_sum", raw_tensor, axis)
    return _reduce(raw_tensor, axes, keepdims)


def tuple_sum(input_tensors, axis, keepdims=False):
    require(len(input_tensors) == 2, "E90001", f"tuple_sum takes 2, got {len(input_tensors)}")
    first, second = input_tensors
    require(first.shape == second.shape, "E90001", f"tuple_sum: {first.shape}, {second.shape}")
    require(first.dtype == second.dtype, "E90001", f"tuple_sum: {first.dtype}, {second.dtype}")
    if not supports("tuple_sum", first.dtype):
        first, second = cast_to(first, "float32"), cast_to(second, "float32")
    axes = _axes("tuple_sum", first, axis)
    return [_reduce(first, axes, keepdims), _reduce(second, axes, keepdims)]


def _axes(name, tensor, axis):
    rank = len(tensor.shape)
    axes = [axis] if isinstance(axis, int) else axis
    require(isinstance(axes, (list, tuple)), "E90001", f"{name} takes axes, got {axis!r}")
    require(all(-rank <= a < rank for a in axes), "E90001", f"{name}: axes {axes}, rank {rank}")
    return tuple(sorted({a % rank for a in axes}))


def _reduce(tensor, axes, keepdims):
    kept = dict.fromkeys(axes, 1) if keepdims else {}
    shape = [kept.get(a, s) for a, s in enumerate(tensor.shape) if keepdims or a not in axes]
    shape = tuple(shape) or (1,)

    def total(x):  # NumPy adds pairwise along a contiguous axis; a device's order is its own
        kept_axes = [a for a in range(x.ndim) if a not in axes]
        rows = np.ascontiguousarray(x.transpose(*kept_axes, *axes)).reshape(prod(shape), -1)
        return rows.sum(1, dtype=x.dtype).reshape(shape)

    return Tensor(shape, tensor.dtype, "reduce", "", (tensor,), total)
