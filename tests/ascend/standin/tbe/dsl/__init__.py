"""`tbe.dsl`: compute functions, classify, auto_schedule and build."""

from tbe.dsl.arithmetic import (
    vabs,
    vadd,
    vadds,
    vdiv,
    vexp,
    vlog,
    vmax,
    vmaxs,
    vmin,
    vmins,
    vmul,
    vmuls,
    vrec,
    vrelu,
    vrsqrt,
    vsqrt,
    vsub,
)
from tbe.dsl.classifier import classify
from tbe.dsl.schedule import auto_schedule, build, compute
from tbe.dsl.shaping import broadcast, cast_to, reduce_sum, round, tuple_sum

__all__ = [
    "auto_schedule",
    "broadcast",
    "build",
    "cast_to",
    "classify",
    "compute",
    "reduce_sum",
    "round",
    "tuple_sum",
    "vabs",
    "vadd",
    "vadds",
    "vdiv",
    "vexp",
    "vlog",
    "vmax",
    "vmaxs",
    "vmin",
    "vmins",
    "vmul",
    "vmuls",
    "vrec",
    "vrelu",
    "vrsqrt",
    "vsqrt",
    "vsub",
]
