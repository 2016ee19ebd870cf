"""What the four operators share: checks, layout of the inputs, casts, and the two ways to build.

CANN has two schedulers for one compute function:
- the static one (OpContext "pre-static"), the only one ascend910 operators are compiled with,
- the unify one (OpContext "static" or "dynamic"), which ascend910b and ascend910_93 use.

`build` serves both. The static scheduler declines some shapes (reductions over NCDHW, most of
all) with a RuntimeError; those are compiled by the unify scheduler on ascend910, too.
"""

from math import prod
from typing import NamedTuple

import tbe.dsl as tbe
from tbe import tvm
from tbe.common.context import op_context
from tbe.common.platform import api_check_support
from tbe.common.utils import para_check, shape_util

FLOATS = ("float16", "float32", "bfloat16")

# format of a volume: (rank, axes that a channel vector keeps)
FORMATS = {"NDC1HWC0": (6, (2, 5)), "NCDHW": (5, (1,)), "ND": (5, (1,))}


class Layout(NamedTuple):
    """Shapes of equal rank for a volume and for a channel vector, and the axes between them."""

    volume: list
    channel: list
    axes: list


def to_float32(volume):
    """All arithmetic is float32: sums of float16 overflow, and bfloat16 has no vector unit."""
    return volume if volume.dtype == "float32" else tbe.cast_to(volume, "float32")


def from_float32(volume, dtype):
    if dtype == "float32":
        return volume
    # round is the narrowing to bfloat16: to the nearest even, as a NumPy or PyTorch cast does
    return tbe.round(volume, dtype) if dtype == "bfloat16" else tbe.cast_to(volume, dtype)


def spread(channel, volume):
    """Broadcast a channel vector: the DSL's binary functions take equal shapes only.

    In NDC1HWC0 the last block of 16 channels is padded when C is no multiple of 16. The padding
    lanes hold zeros in x and in the vectors (TransData wrote them), so they compute 0. Even other
    values would do no harm: no operator mixes lanes, and the way back to NCDHW drops these.
    """
    return tbe.broadcast(channel, shape_util.shape_to_list(volume.shape))


def build(compute, volumes, channels, kernel_name, *, reduction):
    """Check the inputs, then compile `compute(*volumes, *channels, axes) -> outputs`.

    Args:
        compute: of tensors; `axes` are the reduced ones of the tensors it is given.
        volumes: {name: tensor description} of one shape, format and dtype.
        channels: {name: tensor description}, float32, one value a channel.
        kernel_name: of the compiled kernel.
        reduction: whether the outputs are channel vectors.

    Raises:
        RuntimeError: an input has another dtype, format or shape than the operator takes.
    """
    check(volumes, channels, kernel_name)
    context = op_context.get_context()
    if context is not None and context.get_op_mode() in ("static", "dynamic"):
        build_unify(compute, volumes, channels, kernel_name, reduction=reduction)
        return
    try:
        build_static(compute, volumes, channels, kernel_name)
    except RuntimeError:
        if context is None:
            with op_context.OpContext("static"):
                build_unify(compute, volumes, channels, kernel_name, reduction=reduction)
        else:
            # The engine reads the build's results from its own context: a nested one would
            # hide them.
            context.set_op_mode("static")
            build_unify(compute, volumes, channels, kernel_name, reduction=reduction)


def check(volumes, channels, operator):
    """Raise RuntimeError unless the inputs are what the operator takes on this SoC."""

    def require(condition, name, what, got):
        if not condition:
            raise RuntimeError(f"{operator}: {name} must {what}, got {got}")

    first, x = next(iter(volumes.items()))
    floats = [d for d in FLOATS if d != "bfloat16" or api_check_support("tbe.dsl.round", "f322bf16")]
    require(x["format"] in FORMATS, first, f"have one of the formats {', '.join(FORMATS)}", x["format"])
    require(x["dtype"] in floats, first, f"be {' or '.join(floats)} on this SoC", x["dtype"])
    rank = FORMATS[x["format"]][0]
    require(len(x["shape"]) == rank, first, f"have {rank} dimensions in {x['format']}", x["shape"])
    for name, tensor in volumes.items():
        for key in ("shape", "format", "dtype"):
            same = str(tensor[key]) if key != "shape" else list(tensor[key])
            want = str(x[key]) if key != "shape" else list(x[key])
            require(same == want, name, f"have the {key} of {first}, {want}", same)
    for name, tensor in channels.items():
        require(tensor["dtype"] == "float32", name, "be float32", tensor["dtype"])
        count = prod(unfold(x).channel)
        require(
            prod(tensor["shape"]) == count or -1 in (*x["shape"], *tensor["shape"]),
            name,
            f"hold one value a channel, {count}",
            tensor["shape"],
        )


def build_static(compute, volumes, channels, kernel_name):
    x = next(iter(volumes.values()))
    if x["dtype"] == "bfloat16":
        raise RuntimeError("the static scheduler cannot narrow to bfloat16")
    layout = fold(x)
    tensors = [tvm.placeholder(layout.volume, name=n, dtype=x["dtype"]) for n in volumes]
    tensors += [tvm.placeholder(layout.channel, name=n, dtype="float32") for n in channels]
    outputs = compute(*tensors, layout.axes)
    with tvm.target.cce():
        schedule = tbe.auto_schedule(outputs)
    tbe.build(schedule, {"name": kernel_name, "tensor_list": tensors + list(outputs)})


def build_unify(compute, volumes, channels, kernel_name, *, reduction):
    layout = unfold(next(iter(volumes.values())))
    inputs = [describe(tensor, layout.volume) for tensor in volumes.values()]
    inputs += [describe(tensor, layout.channel) for tensor in channels.values()]
    names = [*volumes, *channels]
    if reduction:
        # Without it classify() gives a vector the shape of the volume.
        vectors = range(len(volumes), len(inputs))
        extra = {"compile_broadcast_axis": {index: layout.axes for index in vectors}}
        mode = "tuple_reduce"
        cases = tbe.classify([*inputs, layout.axes], mode, extra)
    else:
        mode = "elewise"
        cases = [[*case, None] for case in tbe.classify(inputs, "broadcast")]
    schedules, tensor_lists = [], []
    for *descriptions, axes in cases:
        with tbe.compute():
            shapes = shape_util.variable_shape(descriptions, op_mode=mode)
            tensors = [
                tvm.placeholder(shape, name=name, dtype=description["dtype"])
                for shape, name, description in zip(shapes, names, inputs, strict=True)
            ]
            outputs = compute(*tensors, axes)
        with tvm.target.cce():
            schedules.append(tbe.auto_schedule(outputs))
        tensor_lists.append(tensors + list(outputs))
    tbe.build(schedules, {"name": kernel_name, "tensor_list": tensor_lists})


def fold(x):
    """Merge the axes between which the static scheduler need not tell.

    NCDHW must not keep rank 5: the recognisers of the built-in batch norm would take it for
    NC1HWC0 and schedule over the wrong axes.
    """
    if x["format"] == "NDC1HWC0":
        n, d, c1, h, w, c0 = x["shape"]
        return Layout([n * d, c1, h, w, c0], [1, c1, 1, 1, c0], [0, 2, 3])
    n, c, *spatial = x["shape"]
    return Layout([n, c, prod(spatial)], [1, c, 1], [0, 2])


def unfold(x):
    """The shapes as they are: classify() of the unify scheduler merges axes itself."""
    rank, kept = FORMATS[x["format"]]
    channel = [size if axis in kept else 1 for axis, size in enumerate(x["shape"])]
    return Layout(list(x["shape"]), channel, [axis for axis in range(rank) if axis not in kept])


def describe(tensor, shape):
    ranges = [(1, None) if size == -1 else (size, size) for size in shape]
    return {**tensor, "shape": list(shape), "range": ranges}
