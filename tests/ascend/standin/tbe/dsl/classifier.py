"""`tbe.dsl.classify` for known shapes: one case, with the axes merged that may be."""

from itertools import groupby
from math import prod

from tbe.common.context import op_context
from tbe.errors import require


def classify(ins, mode, extra_params=None):
    context = op_context.get_context()
    unify = context is not None and context.get_op_mode() in ("static", "dynamic")
    require(unify, "E90001", "classify is for the unify scheduler")
    if mode == "tuple_reduce":
        return [_tuple_reduce(ins[:-1], ins[-1], (extra_params or {}))]
    require(mode == "broadcast", "E90001", f"no mode {mode}")
    return [_broadcast(ins, extra_params or {})]


def _tuple_reduce(tensors, reduced, extra_params):
    shapes = _equal_ranks(tensors)
    spread = extra_params.get("compile_broadcast_axis", {})
    full = [max(sizes) for sizes in zip(*shapes, strict=True)]
    # A tensor that does not say that it is broadcast is taken for one of full shape.
    shapes = [
        [1 if axis in spread.get(index, ()) else size for axis, size in enumerate(full)]
        for index in range(len(shapes))
    ]

    def key(axis):
        return (axis in reduced, *(axis in spread.get(i, ()) for i in range(len(shapes))))

    merged, keys = _merge(shapes, key)
    axes = [axis for axis, (is_reduced, *_) in enumerate(keys) if is_reduced]
    if not axes:  # keep the graph a reduction
        merged, axes = [[1, *shape] for shape in merged], [0]
    if len(axes) == len(merged[0]):  # and give it an axis to split
        merged, axes = [[1, *shape] for shape in merged], [axis + 1 for axis in axes]
    return [*_described(tensors, merged), axes]


def _broadcast(tensors, extra_params):
    shapes = _equal_ranks(tensors)
    types = extra_params.get("input_shape_type", [0] * len(shapes))
    require(len(types) == len(shapes) and set(types) <= {0, 1}, "E90001", f"types {types}")
    for group in extra_params.get("same_input_shape_group", []):
        alike = all(shapes[index] == shapes[group[0]] for index in group)
        require(alike, "E90001", f"the shapes of {group} differ")
    full = [max(sizes) for sizes in zip(*shapes, strict=True)]
    for shape in shapes:
        ok = all(have in (1, want) for have, want in zip(shape, full, strict=True))
        require(ok, "E90001", f"cannot broadcast {shape} to {full}")
    merged, _ = _merge(shapes, lambda axis: tuple(shape[axis] == 1 for shape in shapes))
    return _described(tensors, merged)


def _equal_ranks(tensors):
    for tensor in tensors:
        for size, (low, high) in zip(tensor["shape"], tensor["range"], strict=True):
            require(low == high == size > 0, "E90001", f"a known shape, got {tensor}")
    rank = max(len(tensor["shape"]) for tensor in tensors)
    return [[1] * (rank - len(t["shape"])) + list(t["shape"]) for t in tensors]


def _merge(shapes, key):
    axes = [a for a in range(len(shapes[0])) if any(shape[a] != 1 for shape in shapes)]
    groups = [(k, list(g)) for k, g in groupby(axes, key)] or [(key(0), [0])]
    merged = [[prod(shape[a] for a in group) for _, group in groups] for shape in shapes]
    return merged, [k for k, _ in groups]


def _described(tensors, shapes):
    return [
        {**tensor, "shape": shape, "range": [(size, size) for size in shape]}
        for tensor, shape in zip(tensors, shapes, strict=True)
    ]
