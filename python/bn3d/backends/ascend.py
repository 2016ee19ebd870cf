"""Backend of the operator package on Ascend 910, through `mindspore.ops.Custom(func_type="aot")`.

MindSpore finds the operators by their type in the package that `bn3d opp install` put into CANN,
kernel by kernel as well as in the graph engine. Importing this module registers them, which
compiles a small file with g++; it needs the device target Ascend and CANN's environment.

Never run on an NPU; see docs/ascend.md.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import ops
from mindspore.ops import CustomRegOp, DataType

from bn3d.backends import split
from bn3d.backends.ascend_obstacles import soc_name
from bn3d.backends.split_cells import Operators
from bn3d.operators import OPERATORS, Operator
from bn3d.opp.support import SOCS

__all__ = [
    "DTYPES",
    "VOLUME_DTYPES",
    "apply",
    "compiled",
    "forward_inference",
    "forward_training",
    "grad_apply",
    "grad_reduce",
    "reduce",
    "settings",
]

_MINDSPORE = {
    "float16": (ms.float16, DataType.F16_Default),
    "float32": (ms.float32, DataType.F32_Default),
    "bfloat16": (ms.bfloat16, DataType.BF16_Default),
}

# What the package of this SoC takes; of all SoCs where its name is not known.
DTYPES = tuple(
    dict.fromkeys(name for soc in SOCS if soc_name() in (soc.name, None) for name in soc.dtypes)
)
VOLUME_DTYPES = tuple(_MINDSPORE[name][0] for name in DTYPES)


def _custom(operator: Operator) -> ops.Custom:
    """One of the four operators, with the attributes that MindSpore passes on to CANN or reads."""
    registration = CustomRegOp(operator.type)
    for index, tensor in enumerate(operator.inputs):
        registration.input(index, tensor.name, "required")
    for index, tensor in enumerate(operator.outputs):
        registration.output(index, tensor.name, "required")
    for name in DTYPES:
        registration.dtype_format(
            *(
                _MINDSPORE[name][1] if tensor.kind == "volume" else DataType.F32_Default
                for tensor in (*operator.inputs, *operator.outputs)
            )
        )
    kinds = [tensor.kind for tensor in operator.inputs]
    volume, channel = kinds.index("volume"), kinds.index("channel")

    def infer(values, of_channel):
        found = tuple(
            values[volume] if tensor.kind == "volume" else of_channel for tensor in operator.outputs
        )
        return found if len(found) > 1 else found[0]

    custom = ops.Custom(
        operator.type,
        out_shape=lambda *shapes: infer(shapes, shapes[channel]),
        out_dtype=lambda *dtypes: infer(dtypes, ms.float32),
        func_type="aot",
        reg_info=registration.target("Ascend").get_op_info(),
    )
    # Kernel by kernel: look for the operator itself and not for an aclnn function of its name.
    custom.add_prim_attr("custom_aclop", True)
    # Kernel by kernel: compile for the shapes that there are; the package has no other kernels.
    custom.add_prim_attr("acl_op_jit_compile", True)
    # Graph engine: volumes are NCDHW, so that it may convert to and from NDC1HWC0.
    custom.add_prim_attr("io_format", "NCDHW")
    # Graph engine: float32 stays so, whatever its precision mode asks of others (an int, as the
    # fusion engine reads it).
    custom.add_prim_attr("_keep_dtype", 1)
    return custom


reduce, apply, grad_reduce, grad_apply = (_custom(operator) for operator in OPERATORS)

# In PyNative mode MindSpore looks for aclnn functions only; a compiled function is launched
# kernel by kernel, as in graph mode, and finds these operators.
compiled = ms.jit

settings = split.settings
forward_training, forward_inference = split.build(
    Operators(reduce, apply, grad_reduce, grad_apply),
    compiled=compiled,
    dtypes=VOLUME_DTYPES,
)
