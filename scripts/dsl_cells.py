#!/usr/bin/env python3
"""Measure what larger vectors would give the elementwise operators whose cores are out of balance.

The sources take a vector (C,). Handed over as (N, C, D, p, 1), "cells", it would let the scheduler
see one axis of N * D * C1 * p pieces (NCDHW: N * C * D * p) and split that over the cores. This
compiles such kernels, which the package does not have, with the tools of scripts/measure_dsl.py,
and writes tests/ascend/goldens/cells.json, from which scripts/dsl_costs.py makes a table.

    BN3D_DSL_TOOLS=DIR REALTVM_AKG=... REALTVM_CANN=... python3.9 scripts/dsl_cells.py
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import dsl_costs
import measure_dsl
from measure_dsl import CORES

CELLS = measure_dsl.GOLDEN.with_name("cells.json")


def unbalanced() -> list[dict]:
    """The measured cases that larger vectors could help."""
    return [
        case
        for case in dsl_costs.load()[0]
        if dsl_costs.is_static(case)
        and dsl_costs.size(case) >= dsl_costs.LARGE
        and case["operator"].endswith("Apply")
        and case["busy"] > dsl_costs.BALANCED
    ]


def parts_of_h(pieces: int, h: int) -> int:
    """The fewest parts of H that put the cores in balance, or all of H."""
    for parts in range(1, h):
        cells = pieces * parts
        if h % parts == 0 and -(-cells // CORES) * CORES / cells <= dsl_costs.BALANCED:
            return parts
    return h


def cells(x: dict):
    """(shape of the vectors, how they and the volume are folded)."""
    from bn3d_impl.layout import Layout  # noqa: PLC0415

    if x["format"] == "NDC1HWC0":
        n, d, c1, h, w, c0 = x["shape"]
        parts = parts_of_h(n * d * c1, h)
        count = n * d * c1 * parts
        if h > parts:
            layout = Layout([1, count, h // parts, w, c0], [1, count, 1, 1, c0], [0, 2, 3])
        else:
            layout = Layout([1, count, w, c0], [1, count, 1, c0], [0, 2])
        return (n, d, c1, parts, 1, c0), layout
    n, c, d, h, w = x["shape"]
    parts = parts_of_h(n * c * d, h)
    count = n * c * d * parts
    return (n, c, d, parts, 1), Layout([1, count, h // parts * w], [1, count, 1], [0, 2])


class Cells(measure_dsl.Bench):
    def measure(self, type_: str, layout: str, dtype: str, shape: list) -> dict:
        from bn3d_impl import build  # noqa: PLC0415

        operator, engine = self.operators[type_], self.engine
        arguments = engine.descriptions(operator, shape, layout, dtype)
        vector, folded = cells(arguments[0])
        build.check = lambda volumes, channels: None  # it would refuse such vectors
        build.foldings = lambda x, volumes, reduces: [folded]
        for argument, tensor in zip(arguments, operator.inputs):  # noqa: B905
            if tensor.kind == "channel":
                argument["shape"] = argument["ori_shape"] = list(vector)
        (result,), schedules, _ = self.front.compile(
            engine.module_name(operator, "pre-static"), operator.module, arguments
        )
        kernel = self.front.kernel(result, schedules[-1])
        inputs = engine.random_inputs(operator, shape, dtype, 1000.0, 0)
        arrays = [
            engine.pack(array, layout).astype(dtype)
            if tensor.kind == "volume"
            else _expanded(engine.pack(array, layout), vector)
            for array, tensor in zip(inputs.values(), operator.inputs)  # noqa: B905
        ]
        outputs = [
            engine.unpack(array.astype(np.float64), "volume", shape, layout)
            for array in kernel.run(arrays)
        ]
        error = max(engine.errors(operator, inputs, outputs))
        kinds = [tensor.kind for tensor in operator.inputs + operator.outputs]
        volumes = {at for at, kind in enumerate(kinds) if kind == "volume"}
        elements = math.prod(engine.volume_shape(shape, layout))
        ideal = len(volumes) * elements * np.dtype(dtype).itemsize
        ideal += 4 * (len(kinds) - len(volumes)) * math.prod(engine.channel_shape(shape[1], layout))
        width = math.prod(folded.volume[2:])
        found = measure_dsl.costs(kernel, volumes, ideal, elements, width)
        return {
            "vector": list(vector),
            "folded": folded.volume,
            "error": float(f"{error:.1e}"),
            **found,
        }


def _expanded(vector: np.ndarray, shape: tuple) -> np.ndarray:
    aligned = vector.reshape(1, -1, 1, 1, 1) if len(shape) == 5 else vector
    return np.ascontiguousarray(np.broadcast_to(aligned, shape).astype("float32"))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    bench, found = Cells(), []
    for case in unbalanced():
        key = {name: case[name] for name in ("operator", "format", "dtype", "shape")}
        found.append({**key, **bench.measure(*key.values())})
        print(json.dumps(found[-1]), flush=True)
    CELLS.write_text(measure_dsl.one_a_line(found) + "\n")
