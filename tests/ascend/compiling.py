"""The operators compiled and run on the stand-in, as CANN's engine would do it."""

from __future__ import annotations

import importlib

import engine
import pytest
from tbe.common import platform
from tbe.common.context import op_context
from tbe.dsl import schedule
from tbe.graph import evaluate

from bn3d.operators import OPERATORS

REDUCTIONS = [operator for operator in OPERATORS if operator.outputs[0].kind == "channel"]
by_type = pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.type)


def compiled(operator, soc, arguments, mode=None):
    """Build as the engine would: its own context, the SoC's module."""
    platform.set_soc(soc)
    mode = mode or engine.SOCS[soc][0]
    function = getattr(importlib.import_module(engine.module_name(operator, mode)), operator.module)
    with op_context.OpContext(mode) as context:
        function(*arguments, kernel_name=f"te_{operator.module}_0")
    build = schedule.builds.pop()
    return build, context


def run(operator, build, inputs, shape, layout, padding=0.0):
    """Unpacked outputs, and the raw ones."""
    packed = [engine.pack(array, layout, padding) for array in inputs.values()]
    feed = {
        tensor: array.reshape(tensor.shape)
        for tensor, array in zip(build.inputs, packed, strict=True)
    }
    raw = evaluate(build.schedule.outputs, feed)
    kinds = [tensor.kind for tensor in operator.outputs]
    return [engine.unpack(a, kind, shape, layout) for a, kind in zip(raw, kinds, strict=True)], raw
