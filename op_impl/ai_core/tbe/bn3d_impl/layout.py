"""What the operators accept, and how a volume and a channel vector line up.

A volume is (N, C, D, H, W) in the formats NCDHW and ND, (N, D, C1, H, W, C0) in NDC1HWC0. A
channel vector is (C,), or (1, 1, C1, 1, 1, C0) where the engine lays it out as NDC1HWC0.
"""

from functools import reduce
from operator import mul
from typing import NamedTuple

from tbe.common.platform import api_check_support

# format of a volume: the axes that a channel vector shares with it
CHANNEL_AXES = {"NDC1HWC0": (2, 5), "NCDHW": (1,), "ND": (1,)}
RANK = {"NDC1HWC0": 6, "NCDHW": 5, "ND": 5}
UNKNOWN = -1  # a dimension that the kernel learns when it is launched


class Layout(NamedTuple):
    """Shapes of equal rank for a volume and for a channel vector; the axes between them.

    `row` is the shape that a vector is spread to on its own, before it meets a volume, if any.
    """

    volume: list
    channel: list
    axes: list
    row: list = None


def whole(x):
    """Every axis as it is, for the unify scheduler: its classify() merges them."""
    kept = CHANNEL_AXES[x["format"]]
    channel = [size if axis in kept else 1 for axis, size in enumerate(x["shape"])]
    return Layout(
        list(x["shape"]), channel, [axis for axis in range(len(channel)) if axis not in kept]
    )


def check(volumes, channels):
    """Raise RuntimeError for the first input that the operators do not take on this SoC."""
    (first, x), *others = volumes.items()
    _require(x["format"] in RANK, first, f"have one of the formats {', '.join(RANK)}", x["format"])
    # vconv from and to bfloat16 came with ascend910b
    has_bfloat16 = api_check_support("tbe.dsl.round", "f322bf16")
    dtypes = ["float16", "float32"] + ["bfloat16"] * has_bfloat16
    _require(x["dtype"] in dtypes, first, f"be {' or '.join(dtypes)} on this SoC", x["dtype"])
    shape = list(x["shape"])
    rank = RANK[x["format"]]
    _require(len(shape) == rank, first, f"have {rank} dimensions in {x['format']}", shape)
    _require(all(size == UNKNOWN or size > 0 for size in shape), first, "not be empty", shape)
    for name, volume in others:
        for key in ("format", "dtype"):
            _require(volume[key] == x[key], name, f"have {first}'s {key} {x[key]}", volume[key])
        got = list(volume["shape"])
        _require(_compatible(got, shape), name, f"have {first}'s shape {shape}", got)
    sizes = whole(x).channel
    count = reduce(mul, sizes, 1)
    for name, channel in channels.items():
        _require(channel["dtype"] == "float32", name, "be float32", channel["dtype"])
        got = list(channel["shape"])
        fits = UNKNOWN in sizes or UNKNOWN in got or reduce(mul, got, 1) == count
        _require(fits, name, f"hold {count} values, one a channel of {first}", got)


def _compatible(shape, other):
    return len(shape) == len(other) and all(
        size == other[axis] or UNKNOWN in (size, other[axis]) for axis, size in enumerate(shape)
    )


def _require(condition, name, what, got):
    if not condition:
        raise RuntimeError(f"bn3d: {name} must {what}, got {got}")
