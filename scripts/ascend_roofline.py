#!/usr/bin/env python3
"""Memory traffic of the operators and their roofline times, as the Markdown of docs/ascend.md.

A model, not a measurement: time = the larger of bytes / memory rate and instructions / vector
rate. Rates are those of CANN 8.1's platform files, data/platform_config/<SoC>.ini:

    memory rate = cores * ddr_rate [byte/cycle] * cube_freq [MHz]
    vector rate = cores * vec_calc_size / 2 [float32 lanes] * cube_freq [MHz]

cores is ai_core_cnt on 910A; vector_core_cnt on 910B3, whose vector units are cores of their own.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from math import prod

LANES = 64  # vec_calc_size = 128 float16 lanes, in every file
BYTES_PER_CYCLE = 32  # ddr_rate, in every file
SHAPE = (8, 64, 16, 56, 56)  # a volume of 25.7 million elements


@dataclass(frozen=True)
class Soc:
    name: str
    cores: int
    mhz: int

    @property
    def memory_rate(self) -> float:
        """Bytes a second."""
        return self.cores * BYTES_PER_CYCLE * self.mhz * 1e6

    @property
    def vector_rate(self) -> float:
        """Float32 lanes a second."""
        return self.cores * LANES * self.mhz * 1e6


@dataclass(frozen=True)
class Work:
    """Volumes read and written; vector instructions an element, and float16 casts besides."""

    name: str
    reads: int
    writes: int
    instructions: int
    casts: int


SOCS = (Soc("910A", 32, 1000), Soc("910B3", 40, 1800))
WORK = (
    Work("Bn3dReduce", 1, 0, 4, 1),  # subtract, multiply, two adds
    Work("Bn3dApply", 1, 1, 3, 2),  # subtract, multiply, add
    Work("Bn3dGradReduce", 2, 0, 4, 2),  # subtract, multiply, two adds
    Work("Bn3dGradApply", 2, 1, 5, 3),  # subtract, two multiplies, two adds
)
TRANSDATA = 2  # reads a volume, writes one
REDUCE, APPLY, GRAD_REDUCE, GRAD_APPLY = (work.reads + work.writes for work in WORK)


@dataclass(frozen=True)
class Pass:
    """Volumes read plus written by our operators; the built-in ones read and write as many."""

    name: str
    compute: int

    def stock(self, transdata: int) -> int:
        return self.compute + transdata * TRANSDATA


PASSES = (
    Pass("forward, training", REDUCE + APPLY),
    Pass("backward", GRAD_REDUCE + GRAD_APPLY),
    Pass("forward, inference", APPLY),
)


def seconds(work: Work, soc: Soc, itemsize: int) -> tuple[float, str]:
    """Of one call over SHAPE, and what bounds it."""
    elements = prod(SHAPE)
    memory = elements * itemsize * (work.reads + work.writes) / soc.memory_rate
    instructions = work.instructions + (work.casts if itemsize == 2 else 0)
    vector = elements * instructions / soc.vector_rate
    return max(memory, vector), "memory" if memory >= vector else "vector"


def operators() -> list[str]:
    lines = [
        "| operator | volumes read | written | MB float16 | MB float32 | "
        + " | ".join(f"{soc.name} {dtype}" for soc in SOCS for dtype in ("float16", "float32"))
        + " |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for work in WORK:
        megabytes = [prod(SHAPE) * s * (work.reads + work.writes) / 1e6 for s in (2, 4)]
        times = [seconds(work, soc, itemsize) for soc in SOCS for itemsize in (2, 4)]
        cells = [work.name, work.reads, work.writes, *(f"{m:.0f}" for m in megabytes)]
        cells += [f"{1e6 * time:.0f} µs ({bound})" for time, bound in times]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def passes() -> list[str]:
    lines = [
        "| pass | bn3d | stock, neighbours in NCDHW | stock, neighbours in NDC1HWC0 |",
        "|---|---|---|---|",
    ]
    for each in PASSES:
        stock = [each.stock(2), each.stock(4)]  # one TransData each way, or two
        cells = [f"{count} ({count / each.compute:.1f}x)" for count in stock]
        lines.append(f"| {each.name} | {each.compute} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    print("\n".join([*operators(), "", *passes()]))
