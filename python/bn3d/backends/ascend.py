"""Backend of the operator package on Ascend 910, through `mindspore.ops.Custom(func_type="aot")`.

MindSpore finds the operators by their type in the package that `bn3d opp install` put into CANN,
kernel by kernel as well as in the graph engine. Importing this module registers them, which
compiles a small file with g++; it needs the device target Ascend and CANN's environment.

Never run on an NPU; see docs/ascend_reference.md.
"""

from __future__ import annotations

import functools

import mindspore as ms
from mindspore import ops
from mindspore.ops import CustomRegOp, DataType

from bn3d.backends import split
from bn3d.backends.backend import Backend, Operators
from bn3d.backends.fallback import KERNEL_BY_KERNEL
from bn3d.mindspore_private.device import soc_name
from bn3d.mindspore_private.operators import for_ascend
from bn3d.operators import OPERATORS, Operator
from bn3d.opp.support import SOCS

__all__ = ["BACKEND"]

_MINDSPORE = {
    "float16": (ms.float16, DataType.F16_Default),
    "float32": (ms.float32, DataType.F32_Default),
    "bfloat16": (ms.bfloat16, DataType.BF16_Default),
}

# What the package takes on this SoC, or on any SoC where the name is unknown.
_DTYPES = tuple(
    dict.fromkeys(name for soc in SOCS if soc_name() in (soc.name, None) for name in soc.dtypes)
)


def _custom(operator: Operator) -> ops.Custom:
    """One of the four operators, with the attributes that MindSpore passes on to CANN or reads."""
    registration = CustomRegOp(operator.type)
    for index, tensor in enumerate(operator.inputs):
        registration.input(index, tensor.name, "required")
    for index, tensor in enumerate(operator.outputs):
        registration.output(index, tensor.name, "required")
    for name in _DTYPES:
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
    return for_ascend(custom)


_OPERATORS = Operators(*(_custom(operator) for operator in OPERATORS))

# In PyNative mode MindSpore looks for aclnn functions only; a compiled function is launched
# kernel by kernel, as in graph mode, and finds these operators. MindSpore 2.7.0 by itself gives it
# to the graph engine on ascend910, which takes no view; the documents say so up to 2.8.
_compiled = functools.partial(ms.jit, **dict(KERNEL_BY_KERNEL))
_split = split.build(_OPERATORS, compiled=_compiled, dtypes=_DTYPES, probed=True)

BACKEND = Backend(
    "ascend",
    split.settings,
    _split.forward_training,
    _split.forward_inference,
    _OPERATORS,
    dtypes=_DTYPES,
    compiled=_compiled,
    probed=True,
)
