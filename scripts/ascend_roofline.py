#!/usr/bin/env python3
"""Memory traffic of the operators and their roofline times, as docs/ascend_reference.md has them.

A model, not a measurement: time = the larger of bytes / memory rate and vector cycles / cycle rate.
The memory rate is that of CANN 8.1's platform files, data/platform_config/<SoC>.ini:

    memory rate = cores * ddr_rate [byte/cycle] * cube_freq [MHz]

cores is ai_core_cnt on 910A; vector_core_cnt on 910B3, whose vector units are cores of their own.

Vector cycles on 910A: the repeats of 256 bytes that were counted in the schedules of the sources
(tests/ascend/goldens/schedules.json), a cycle each, for no rates of 910A are published. On 910B3:
the instructions of the source, at the cycles a repeat of the cost model for A2 and A3 in Huawei's
PTO-ISA (include/pto/costmodel/a2a3, calibrated on 910B3), without what each costs to start.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from math import prod
from pathlib import Path

LANES = 64  # float32 of a repeat: vec_calc_size = 128 float16 lanes, in every file
BYTES_PER_CYCLE = 32  # ddr_rate, in every file
SHAPE = (8, 64, 16, 56, 56)  # a volume of 25.7 million elements
COUNTED = [2, 64, 16, 56, 56]  # the volume whose schedules were counted: one of the same kind
GOLDEN = Path(__file__).resolve().parents[1] / "tests/ascend/goldens/schedules.json"
CYCLES = {"add": 2.11, "multiply": 2.3, "cast": 2.0}  # a repeat on A2; add stands for subtract


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
    def cycle_rate(self) -> float:
        """Vector cycles a second, of all cores."""
        return self.cores * self.mhz * 1e6


@dataclass(frozen=True)
class Work:
    """Volumes read and written; float32 instructions an element, and float16 casts besides."""

    name: str
    reads: int
    writes: int
    adds: int
    multiplies: int
    casts: int

    def cycles(self, itemsize: int) -> float:
        """On A2, for a repeat of elements."""
        casts = self.casts if itemsize == 2 else 0
        return (
            self.adds * CYCLES["add"]
            + self.multiplies * CYCLES["multiply"]
            + casts * CYCLES["cast"]
        )


SOC_910A, SOC_910B3 = Soc("910A", 32, 1000), Soc("910B3", 40, 1800)
WORK = (
    Work("Bn3dReduce", 1, 0, 3, 1, 1),
    Work("Bn3dApply", 1, 1, 2, 1, 2),
    Work("Bn3dGradReduce", 2, 0, 3, 1, 2),
    Work("Bn3dGradApply", 2, 1, 3, 2, 3),
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


def seconds(work: Work, soc: Soc, itemsize: int, cycles: float) -> tuple[float, str]:
    """Of one call over SHAPE, at `cycles` for a repeat of elements, and what bounds it."""
    elements = prod(SHAPE)
    memory = elements * itemsize * (work.reads + work.writes) / soc.memory_rate
    vector = elements / LANES * cycles / soc.cycle_rate
    if abs(memory - vector) < 0.02 * memory:
        return max(memory, vector), "both"
    return max(memory, vector), "memory" if memory > vector else "vector"


def counted() -> dict[tuple[str, str, str], float]:
    """{(operator, format, dtype): repeats for a repeat of elements} of COUNTED on 910A."""
    cases = json.loads(GOLDEN.read_text())["cases"]
    return {
        (case["operator"], case["format"], case["dtype"]): case["rep"]
        for case in cases
        if case["shape"] == COUNTED
    }


def operators() -> list[str]:
    dtypes = {"float16": 2, "float32": 4}
    columns = ["MB float16", "float32"]
    columns += [f"910A {layout} {dtype}" for layout in ("NDC1HWC0", "NCDHW") for dtype in dtypes]
    columns += [f"910B3 {dtype}" for dtype in dtypes]
    lines = [
        "| operator | volumes read | written | " + " | ".join(columns) + " |",
        "|---" * (3 + len(columns)) + "|",
    ]
    repeats = counted()
    for work in WORK:
        megabytes = [prod(SHAPE) * s * (work.reads + work.writes) / 1e6 for s in (2, 4)]
        times = [
            seconds(work, SOC_910A, itemsize, repeats[work.name, layout, dtype])
            for layout in ("NDC1HWC0", "NCDHW")
            for dtype, itemsize in dtypes.items()
        ]
        times += [seconds(work, SOC_910B3, size, work.cycles(size)) for size in dtypes.values()]
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
