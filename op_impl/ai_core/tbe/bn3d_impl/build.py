"""Compile a compute function by one of CANN's two schedulers.

The static scheduler (OpContext "pre-static") compiles for ascend910. It declines some shapes,
most of them reductions over NCDHW, with a RuntimeError. The unify scheduler (OpContext
"static") compiles for ascend910b and ascend910_93, takes the shapes that the static one
declined, and (OpContext "dynamic") those with unknown dimensions.
"""

import tbe.dsl as tbe
from tbe import tvm
from tbe.common.context import op_context
from tbe.common.utils import shape_util

from .arithmetic import spread_row
from .folding import foldings
from .layout import UNKNOWN, check, whole


def build(compute, volumes, channels, kernel_name, *, reduces):
    """Check the inputs, then compile `compute(*volumes, *channels, axes)`.

    Args:
        compute: from tensors to a list of tensors; `axes` are those of the tensors it is given
            that a channel vector does not have.
        volumes: {name: the engine's description}, all of one shape, format and dtype.
        channels: {name: the engine's description}, float32, one value a channel.
        kernel_name: of the compiled kernel.
        reduces: True if the outputs are channel vectors, False if they are volumes.

    Raises:
        RuntimeError: for an input the operator does not take, naming it; or the scheduler's own.
    """
    check(volumes, channels)
    context = op_context.get_context()
    if context is not None and context.get_op_mode() in ("static", "dynamic"):
        build_unify(compute, volumes, channels, kernel_name, reduces=reduces)
        return
    try:
        build_static(compute, volumes, channels, kernel_name, reduces=reduces)
    except RuntimeError:
        mode = "dynamic" if _unknown(volumes) else "static"
        if context is None:
            with op_context.OpContext(mode):
                build_unify(compute, volumes, channels, kernel_name, reduces=reduces)
        else:
            # Not a context of our own: the engine reads the results of a build from this one.
            context.set_op_mode(mode)
            build_unify(compute, volumes, channels, kernel_name, reduces=reduces)


def build_static(compute, volumes, channels, kernel_name, *, reduces):
    x = next(iter(volumes.values()))
    if x["dtype"] == "bfloat16" or _unknown(volumes):
        raise RuntimeError("the static scheduler has neither bfloat16 nor unknown dimensions")
    *others, last = foldings(x, len(volumes), reduces)
    for layout in others:
        try:
            return _build_folded(compute, volumes, channels, kernel_name, layout)
        except RuntimeError:
            continue
    return _build_folded(compute, volumes, channels, kernel_name, last)


def _build_folded(compute, volumes, channels, kernel_name, layout):
    dtype = next(iter(volumes.values()))["dtype"]
    inputs = [tvm.placeholder(layout.volume, name=name, dtype=dtype) for name in volumes]
    vectors = [tvm.placeholder(layout.channel, name=name, dtype="float32") for name in channels]
    operands = [spread_row(vector, layout.row) if layout.row else vector for vector in vectors]
    outputs = compute(*inputs, *operands, layout.axes)
    with tvm.target.cce():
        schedule = tbe.auto_schedule(outputs)
    tensors = [*inputs, *vectors, *outputs]
    tbe.build(schedule, {"name": kernel_name, "tensor_list": tensors})


def build_unify(compute, volumes, channels, kernel_name, *, reduces):
    layout = whole(next(iter(volumes.values())))
    described = [_describe(volume, layout.volume) for volume in volumes.values()]
    described += [_describe(channel, layout.channel) for channel in channels.values()]
    at_volumes = list(range(len(volumes)))
    at_channels = list(range(len(volumes), len(described)))
    if reduces:
        # Without it classify() would give the vectors the shape of the volume.
        extra = {"compile_broadcast_axis": dict.fromkeys(at_channels, layout.axes)}
        cases = tbe.classify([*described, layout.axes], "tuple_reduce", extra)
    else:
        # Unknown dimensions make a case of every way to broadcast: fewer, if it knows what is
        # of the output's shape (type 1) and what is of one shape.
        extra = {
            "input_shape_type": [1] * len(at_volumes) + [0] * len(at_channels),
            "same_input_shape_group": [at_volumes, at_channels],
        }
        cases = [[*case, None] for case in tbe.classify(described, "broadcast", extra)]
    schedules, tensor_lists = [], []
    for *case, axes in cases:
        with tbe.compute():
            shapes = shape_util.variable_shape(case, "tuple_reduce" if reduces else "elewise")
            inputs = [
                tvm.placeholder(shapes[at], name=name, dtype=described[at]["dtype"])
                for at, name in enumerate([*volumes, *channels])
            ]
            outputs = compute(*inputs, axes)
        with tvm.target.cce():
            schedules.append(tbe.auto_schedule(outputs))
        tensor_lists.append([*inputs, *outputs])
    tbe.build(schedules, {"name": kernel_name, "tensor_list": tensor_lists})


def _unknown(volumes):
    return any(UNKNOWN in volume["shape"] for volume in volumes.values())


def _describe(tensor, shape):
    """Ranges are filled in by the engine, but not for a "pre-static" context."""
    ranges = [(1, None) if size == UNKNOWN else (size, size) for size in shape]
    return {**tensor, "shape": list(shape), "range": ranges}
