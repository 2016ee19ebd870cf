"""Shapes, from tensors and from classified descriptions."""

from tbe.errors import require


def shape_to_list(shape):
    return [int(size) for size in shape]


def variable_shape(inputs, op_mode="elewise"):
    require(op_mode in ("elewise", "tuple_reduce"), "E90001", f"no mode {op_mode}")
    return [list(tensor["shape"]) for tensor in inputs]
