#!/usr/bin/env python3
"""What the static schedules of ascend910 cost: the first half of docs/dsl_schedules.md.

From tests/ascend/goldens/schedules.json, which scripts/measure_dsl.py writes. The second half,
from scripts/check_dsl.py, is kept.
"""

from __future__ import annotations

import argparse
import json
import statistics
from math import prod
from pathlib import Path

import ascend_roofline as roofline

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests/ascend/goldens/schedules.json"
CELLS = GOLDEN.with_name("cells.json")  # from scripts/dsl_cells.py
DOCUMENT = ROOT / "docs/dsl_schedules.md"
HEADING = "## What the schedulers recognise"  # of the second half
LARGE = 2**18  # bytes of a volume; what smaller ones cost is mostly the start of the kernel
BALANCED = 1.15  # busiest core against the mean
BUILT_IN = {  # the operator of stock MindSpore that does the work of ours
    "Bn3dReduce": "bn3d_training_reduce",
    "Bn3dApply": "bn3d_training_update",
    "Bn3dGradReduce": "bn3d_training_update_grad",
    "Bn3dGradApply": "bn3d_training_reduce_grad",
}
SHOWN = (  # of networks, and those that the templates serve worst
    (2, 64, 16, 56, 56),
    (4, 128, 8, 28, 28),
    (16, 512, 2, 7, 7),
    (512, 32, 16, 4, 4),
    (1, 32, 64, 64, 64),
    (2, 3, 16, 112, 112),
    (1, 320, 2, 20, 24),
    (1, 2880, 4, 8, 8),
    (1, 100, 5, 31, 13),
    (6, 192, 3, 37, 40),
    (4096, 16, 1, 1, 1),
)


def load() -> tuple[list[dict], list[dict]]:
    """(cases of ours, cases of the built-in operators)."""
    goldens = json.loads(GOLDEN.read_text())
    return goldens["cases"], goldens["built_in"]


def size(case: dict) -> int:
    """Bytes of a volume, in NDC1HWC0 with its padding."""
    n, c, d, h, w = case["shape"]
    if case["format"] == "NDC1HWC0":
        c = -(-c // 16) * 16
    return prod((n, c, d, h, w)) * (4 if case["dtype"] == "float32" else 2)


def is_static(case: dict) -> bool:
    return case["made"].startswith("static")


def summary() -> list[str]:
    """One line for each operator, format and dtype; what a volume costs at worst, or usually."""
    ours, built_in = load()
    lines = [
        "| operator | format | dtype | volumes | by the static scheduler | busiest core within "
        f"{BALANCED} | UB peak, most | shortest burst | bytes over ideal, most | rep, median "
        "(least to most) |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple, list[dict]] = {}
    for case in ours + built_in:
        key = case["operator"], case["format"], case["dtype"]
        groups.setdefault(key, []).append(case)
    for key, group in groups.items():
        made = [case for case in group if is_static(case)]
        large = [case for case in made if size(case) >= LARGE]
        balanced = sum(case["busy"] <= BALANCED for case in large)
        reps = [case["rep"] for case in large]
        cells = [
            *key,
            len(group),
            len(made),
            f"{balanced} of {len(large)}",
            f"{max(case['ub'] for case in made):,}",
            f"{min(case['burst'] for case in large)} B",
            f"x{max(case['bytes'] for case in large):.2f}",
            f"{statistics.median(reps):.1f} ({min(reps):.1f} to {max(reps):.1f})",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def volumes() -> list[str]:
    """Some volumes in float16, ours beside the built-in operator."""
    ours, built_in = load()
    by_key = {
        (case["operator"], case["format"], tuple(case["shape"])): case
        for case in ours + built_in
        if case["dtype"] == "float16"
    }
    lines = [
        "| operator | volume | bn3d, NDC1HWC0 | built-in, NDC1HWC0 | bn3d, NCDHW |",
        "|---|---|---|---|---|",
    ]
    for operator, stock in BUILT_IN.items():
        for shape in SHOWN:
            keys = (operator, "NDC1HWC0"), (stock, "NDC1HWC0"), (operator, "NCDHW")
            cells = [_cost(by_key.get((*key, shape))) for key in keys]
            volume = " x ".join(map(str, shape))
            lines.append(f"| {operator} | {volume} | {' | '.join(cells)} |")
    return lines


def _cost(case: dict | None) -> str:
    if case is None:
        return "-"
    if not is_static(case):
        return case["made"]
    return " / ".join(
        [
            f"{case['blocks']}",
            f"{case['busy']:.2f}",
            f"{case['ub'] / 1024:.0f}K",
            f"{case['burst']}",
            f"x{case['bytes']:.2f}",
            f"{case['rep']:.1f}",
        ]
    )


def microseconds(case: dict) -> float:
    """Of the busiest core on 910A, by the model of scripts/ascend_roofline.py."""
    work = next(work for work in roofline.WORK if work.name == case["operator"])
    item = 4 if case["dtype"] == "float32" else 2
    memory = (work.reads + work.writes) * item * roofline.LANES / roofline.BYTES_PER_CYCLE
    soc = roofline.SOC_910A
    steps = size(case) / item / roofline.LANES / soc.cores
    return steps * case["busy"] * max(memory * case["bytes"], case["rep"]) / soc.mhz


def balance() -> list[str]:
    """What larger vectors would give: one line for each case that is out of balance."""
    names = ("operator", "format", "dtype", "shape")
    today = {str([case[name] for name in names]): case for case in load()[0]}
    lines = [
        "| operator | format | dtype | volume | vectors | busiest core | bytes | rep | µs saved | "
        "for each vector |",
        "|---" * 10 + "|",
    ]
    for case in json.loads(CELLS.read_text()):
        now = today[str([case[name] for name in names])]
        saved = microseconds(now) - microseconds(case)
        vectors = 3 if case["operator"] == "Bn3dApply" else 4
        cells = [
            *(case[name] for name in names[:3]),
            " x ".join(map(str, case["shape"])),
            " x ".join(map(str, case["vector"])),
            f"{now['busy']:.2f} -> {case['busy']:.2f}",
            f"x{now['bytes']:.2f} -> x{case['bytes']:.2f}",
            f"{now['rep']:.1f} -> {case['rep']:.1f}",
            f"{saved:.1f}",
            f"{saved / vectors:.1f}",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def document() -> list[str]:
    """The lines of the first half."""
    costs = [*COSTS, "", *errors(), "", *summary(), "", *VOLUMES, "", *volumes(), ""]
    return [*costs, *BALANCE, "", *balance(), "", *DECISION, ""]


def errors() -> list[str]:
    """The largest ones, in words."""

    def worst(kind: str, *dtypes: str) -> str:
        return "{:.1e}".format(
            max(
                case["error"]
                for case in filter(is_static, load()[0])
                if case["operator"].endswith(kind) and case["dtype"] in dtypes
            )
        )

    return [
        "Largest errors at mean/std of 1, 100 and 1000: "
        f"volumes {worst('Apply', 'float32')} in float32",
        f"and {worst('Apply', 'float16')} in float16, of their largest value; sums",
        f"{worst('Reduce', 'float16', 'float32')} of the sum of their terms' absolute values.",
    ]


COSTS = """# Schedules of the operators, from CANN's own front end

Nothing here ran on a device, and no figure is a time.

## What the static schedules of ascend910 cost

Written by `scripts/dsl_costs.py` from what `scripts/measure_dsl.py` measured: the templates of a
CANN 8.1.RC1 text tree scheduled on AKG's TVM, and the lowered loops were run on a CPU, each
result held against the judge. CANN's own TVM, its code generation and the device were not there;
[ascend_reference.md](ascend_reference.md) says what that leaves open. The figures of every volume
are in `tests/ascend/goldens/schedules.json`, with a digest of the graph that the source made:
`tests/ascend/test_schedules.py` fails where a source makes another graph, and where a figure is
beyond its limit.

- *busiest core*: bytes of the busiest of 32 cores against the mean; blocks beyond 32 are a second
  round.
- *UB peak*: bytes of the on-chip buffer in use at once, of 262,144. What is marked as double
  counts twice, nothing takes the place of another within an instruction, the emitters'
  temporaries are added. That is on the safe side: two built-in operators, which run on devices,
  exceed the limit in this count.
- *shortest burst*: bytes of the shortest consecutive run of a volume that a DMA moves.
- *bytes over ideal*: all that is moved, partial sums and vectors read again included, against
  each volume and each vector once.
- *rep*: vector repeats of 256 bytes for 64 elements; a count, not a time. An operand of 16 lanes
  takes four for the one of 64 lanes. Two emitters of CANN are Python and counted as they are
  written: `*_with_broadcast`, and the dichotomy of the sums. The others are C++ and taken by
  their operands.

The columns from *busiest core* on leave out volumes under 256 KiB, which are mostly the start of
a kernel; the UB peak is of all. The built-in operators are those that stock MindSpore runs, in
the same count. They take no NCDHW on ascend910.""".splitlines()


VOLUMES = """Some volumes in float16: blocks / busiest core / UB peak / shortest burst / bytes
over ideal / rep. "unify" is a reduction that the static scheduler declined; the tiling of the
other one is C++ and was not run.""".splitlines()

BALANCE = """## Balance by larger vectors

The scheduler splits over the cores at the first axis where the product of the axes reaches 32, so
N * D or N * D * C1 (NCDHW: N or N * C) of 17 to 31, or a little above 32, leaves cores idle. So
does a C1 (NCDHW: C) that is a prime or nearly one: where N * D (NCDHW: N) is 2 to 31 and the
product above 128, so many cores work or few times as many, such as 2 of 32 over 2 x 127 x 1 x 128
x 17.
**Folding does not reach the balance of the reductions**: C1 is not counted at all, and an axis
behind the first is cut by a divisor only. `Bn3dApply` and `Bn3dGradApply` would be balanced with
vectors as (N, C, D, p, 1), "cells": one axis of all pieces, which may be cut anywhere. Measured
below by `scripts/dsl_cells.py` is every case of those operators above 256 KiB that is not within
1.15 today. The price is a launch for each vector, 3 or 4, in which the framework widens it. The
last columns are what the busiest core saves on 910A by the model of `scripts/ascend_roofline.py`,
and how long such a launch may take at most, if it is to pay.""".splitlines()


DECISION = """All of them would be balanced. By the count it pays where a launch takes less than the
last column: 0.1 to 1.8 microseconds, but for one volume, 6 x 192 x 3 x 37 x 40, with 2.2 to 11.1.
So no volume gets it: what a launch costs on 910A is not published, and such vectors would have to
go through the prototypes and, in NDC1HWC0, through conversions of the engine that nobody has seen.
What is saved grows with the volume: 5 microseconds a vector where the busiest core has 1.33 of the
mean (24 or 48 pieces) and a volume 23 MB, or 1.78 (18 pieces) and 10 MB. From there on a device
has to tell whether to build it.""".splitlines()


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    text = DOCUMENT.read_text()
    DOCUMENT.write_text("\n".join([*document(), text[text.index(HEADING) :]]))
