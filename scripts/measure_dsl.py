#!/usr/bin/env python3
"""Measure the static schedules (Ascend910A) of the operators and of the built-in ones they replace.

CANN's own templates schedule on a real TVM (AKG's), whose lowered loops are run on the CPU: the
numbers against the judge, and what counts on a device. Writes tests/ascend/goldens/schedules.json,
from which scripts/check_dsl.py makes the table of docs/dsl_schedules.md and against which the tests
hold the sources. No device takes part; docs/ascend_reference.md says what is real and what is not.

    BN3D_DSL_TOOLS=DIR REALTVM_AKG=... REALTVM_CANN=... python3.9 scripts/measure_dsl.py

DIR holds the tools `real_dsl` and `real_tvm`, whose README says what else they need: Python 3.9,
`numpy<2 sympy decorator attrs psutil`, gcc, AKG and a text tree of CANN 8.1. Two cores take an
hour; `--only Bn3dApply:NDC1HWC0:float16:2,64,16,56,56` measures and prints one case.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import math
import os
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests/ascend/goldens/schedules.json"
sys.path += [str(ROOT / p) for p in ("python", "tests/ascend", "op_impl/ai_core/tbe")]

CORES, UB = 32, 262_144
EVALUATED = 2_000_000  # elements above which one mean/std is run, not three
MEAN_OVER_STD = (1.0, 100.0, 1000.0)
LAYOUTS, DTYPES = ("NDC1HWC0", "NCDHW"), ("float16", "float32")
SHAPES = (  # (N, C, D, H, W): of real networks, odd, prime, of one, few channels and many
    "1,1,1,1,1 1,64,1,1,1 8,64,1,1,1 2,1,4,8,8 2,17,4,8,8 1,17,3,5,7 1,2880,4,8,8 1,16,7,9,11 "
    "3,20,7,9,11 4,16,8,28,28 2,64,16,56,56 512,64,8,1,1 4096,16,1,1,1 1,320,2,20,24 "
    "1,100,5,31,13 2,2048,1,7,7 33,48,3,3,3 7,1000,1,2,2 2,16,1,1000,1 1,48,1,1,3 5,24,1,1,1 "
    "1,4096,1,4,4 2,31,2,16,16 16,512,2,7,7 64,64,8,7,7 8,256,4,14,14 1,16,1,1,100000 "
    "4,32,16,18,67 512,32,16,4,4 4,128,8,28,28 1,32,64,64,64 2,3,16,112,112 6,192,3,37,40 "
    "64,16,32,8,8 32,64,8,16,16 2,32,65536,1,1 1,1,128,128,128 1,16,128,128,128 1,16,10,60,60 "
    "2,16,20,90,90 1,16,5,71,127"
)
# What stock MindSpore runs in NDC1HWC0, and the operator of ours that does the same.
BUILT_IN = {
    "bn3d_training_reduce": "Bn3dReduce",
    "bn3d_training_update": "Bn3dApply",
    "bn3d_training_update_grad": "Bn3dGradReduce",
    "bn3d_training_reduce_grad": "Bn3dGradApply",
}


def tools() -> Path:
    """Puts both tools on the path, or says what is missing."""
    place = os.environ.get("BN3D_DSL_TOOLS")
    if not place:
        raise SystemExit("set BN3D_DSL_TOOLS to the directory of the tools real_dsl and real_tvm")
    for name in ("real_dsl/real_dsl_check.py", "real_tvm/front.py"):
        if not (Path(place) / name).is_file():
            raise SystemExit(f"BN3D_DSL_TOOLS: no {name} in {place}")
    os.environ.setdefault("REALTVM_REAL_DSL", str(Path(place) / "real_dsl"))
    os.environ.setdefault("REALTVM_WORK", "/tmp/bn3d_measure_dsl")
    os.environ["REALTVM_MAIN"] = str(ROOT)
    sys.path.insert(0, str(Path(place) / "real_tvm"))
    return Path(place)


def repeats(region: dict, width: int) -> float:
    """Vector repeats of 256 bytes that an instruction's emitter makes.

    The tool breaks a run where an operand of 16 lanes starts again, which is right for a plain
    instruction. Two emitters are CANN's Python and do better: `*_with_broadcast` copies the 16
    lanes of each of its C1 rows to 64 (4 repeats) and goes on with those; the dichotomy adds whole
    repeats by halves, both sums beside each other. `width` is H * W * 16.
    """
    calls = region["exec"]
    elements = region["elems"] // max(calls, 1)  # of a call, the last ones of a core being shorter
    if region["insn"].endswith("_with_broadcast"):
        rows = max(1, round(elements / width))
        return calls * rows * 4 + region["elems"] / 64
    if "dichotomy_add" in region["insn"]:
        return calls * 2 * _dichotomy(elements // 2)
    return region["n32"]


def _dichotomy(elements: int) -> int:
    left, count = elements // 64, 0
    levels = math.ceil(math.log2(left)) if left else 0
    for _ in range(max(0, levels - 4)):
        count += left // 2 + left % 2
        left //= 2
    return count + max(0, left - 1) + (4 if elements >= 64 else 0) + (elements % 64 > 0)


def temporaries(regions: list) -> int:
    """Bytes of the buffers that the emitters allocate besides the schedule's, at most at once."""
    of = [0]
    for region in regions:
        if "dichotomy_add" in region["insn"]:
            of.append(region["max_exec_elems"] // 2 * 4)
        elif region["insn"].endswith("_with_broadcast"):
            of.append(256)
    return max(of)


def costs(kernel, volumes: set, ideal: int, elements: int, width: int) -> dict:
    """What counts, of a kernel that has run. `volumes`: the arguments that are volumes."""
    blocks = kernel.gen.blocks
    loads = [sum(kernel.core_bytes[:blocks][core::CORES]) for core in range(CORES)]
    regions = [r for r in kernel.regs if r["in_block"] or not kernel.gen.atomic_block]
    moves = [r for r in regions if r["dma"] and r["exec"]]
    of_volumes = [r for r in moves if {argument for argument, _ in r["args"]} & volumes]
    vector = [r for r in regions if not r["dma"] and r["insn"] != "(init)"]
    peak = kernel.peak()["peak_db"] + temporaries(vector)
    if kernel.oob or kernel.gm_oob or kernel.gen.dma_outside:
        raise AssertionError("a buffer is exceeded")
    return {
        "blocks": blocks,
        "busy": round(max(loads) / (sum(loads) / CORES), 2),
        "ub": peak,
        "burst": min(r["minrun"] for r in of_volumes if r["minrun"]),
        "unaligned": sum(r["ub_unal"] for r in moves),
        "bytes": round(sum(r["bytes"] for r in moves) / ideal, 3),
        "rep": round(sum(repeats(r, width) for r in vector) * 64 / elements, 2),
    }


class Bench:
    def __init__(self):
        tools()
        import engine  # noqa: PLC0415
        import front  # noqa: PLC0415

        from bn3d.operators import OPERATORS  # noqa: PLC0415

        self.engine, self.front = engine, front.Front("Ascend910A")
        self.operators = {operator.type: operator for operator in OPERATORS}
        self.dsl = importlib.import_module("tbe.dsl")

    def ours(self, type_: str, layout: str, dtype: str, shape: list) -> dict:
        operator, engine = self.operators[type_], self.engine
        arguments = engine.descriptions(operator, shape, layout, dtype)
        import tracing  # noqa: PLC0415, of the tests of Ascend

        with tracing.traced(self.dsl) as attempts:
            results, schedules, _ = self.front.compile(
                engine.module_name(operator, "pre-static"), operator.module, arguments
            )
        (result,), last = results, attempts[-1]
        case = {
            "graph": last.digest,
            "declined": [attempt.digest for attempt in attempts if not attempt.made],
        }
        if result.schedule["path"] == "unify":
            return {**case, "made": f"unify {result.schedule['pattern']}"}
        made = [name for name, verdict in result.schedule["tried"] if verdict == "made"][-1]
        case["made"] = "static " + made.strip().split(".")[0].replace("Schedule", "")
        case["folded"] = [int(size) for size in result.inputs[0].shape]
        kernel = self.front.kernel(result, schedules[-1])
        elements = math.prod(engine.volume_shape(shape, layout))
        case["error"] = self._error(kernel, result, operator, layout, dtype, shape)
        kinds = [tensor.kind for tensor in operator.inputs + operator.outputs]
        volumes = {at for at, kind in enumerate(kinds) if kind == "volume"}
        size = np.dtype(dtype).itemsize
        channel = 4 * math.prod(engine.channel_shape(shape[1], layout))
        ideal = sum(elements * size if kind == "volume" else channel for kind in kinds)
        width = 16 * shape[3] * shape[4]
        if len(case["folded"]) == 5:
            width = math.prod(case["folded"][2:])
        return {**case, **costs(kernel, volumes, ideal, elements, width)}

    def _error(self, kernel, result, operator, layout, dtype, shape) -> float:
        engine, worst = self.engine, 0.0
        small = math.prod(engine.volume_shape(shape, layout)) <= EVALUATED
        for ratio in MEAN_OVER_STD if small else MEAN_OVER_STD[-1:]:
            inputs = engine.random_inputs(operator, shape, dtype, ratio, 0)
            arrays = [
                engine.pack(array, layout).astype(dtype if tensor.kind == "volume" else "float32")
                for array, tensor in zip(inputs.values(), operator.inputs)  # noqa: B905
            ]
            outputs = [
                engine.unpack(array.astype(np.float64), tensor.kind, shape, layout)
                for array, tensor in zip(kernel.run(arrays), operator.outputs)  # noqa: B905
            ]
            worst = max(worst, *engine.errors(operator, inputs, outputs))
        return float(f"{worst:.1e}")

    def built_in(self, name: str, layout: str, dtype: str, shape: list) -> dict:
        import calibrate  # noqa: PLC0415  (of real_dsl: arguments and data of the built-in ones)

        calibrate.SHAPES[layout] = self.engine.volume_shape(shape, layout)
        volume, channel, _, _ = calibrate.layout(layout)
        inputs, outputs, attributes = calibrate.OPS[name.replace("bn3d_", "")]

        def described(key, kind):
            of_volume = key in ("x", "grads")
            dtypes = dtype if kind == "x" else "float32"
            return calibrate.tensor_dict(
                list(volume if of_volume else channel), dtypes, layout, key
            )

        arguments = [described(key, "x" if key in ("x", "grads") else "f") for key in inputs]
        arguments += [described("x" if kind == "x" else "scale", kind) for kind in outputs]
        results, schedules, _ = self.front.compile(
            name, name, [*arguments, *attributes], builtin=True
        )
        if results[0].schedule["path"] == "unify":
            return {"made": f"unify {results[0].schedule['pattern']}"}
        made = [n for n, verdict in results[0].schedule["tried"] if verdict == "made"][-1]
        kernel = self.front.kernel(results[0], schedules[-1])
        data = calibrate.data(layout, dtype)
        kernel.run([data[key] for key in inputs])
        volumes = {at for at, key in enumerate(inputs) if key in ("x", "grads")}
        volumes |= {len(inputs) + at for at, kind in enumerate(outputs) if kind == "x"}
        count = len(inputs) + len(outputs)
        elements = math.prod(volume)
        ideal = len(volumes) * elements * np.dtype(dtype).itemsize
        ideal += (count - len(volumes)) * math.prod(channel) * 4
        return {
            "made": "static " + made.strip().split(".")[0].replace("Schedule", ""),
            **costs(kernel, volumes, ideal, elements, math.prod(volume[3:])),
        }


def one_a_line(cases: list) -> str:
    return "[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", help="OPERATOR:FORMAT:DTYPE:N,C,D,H,W")
    parser.add_argument("--dtypes", nargs="+", default=DTYPES)
    parser.add_argument("--resume", type=Path, help="JSON lines of finished cases, to go on from")
    options = parser.parse_args()
    bench = Bench()
    if options.only:
        type_, layout, dtype, shape = options.only.split(":")
        print(json.dumps(bench.ours(type_, layout, dtype, tuple(map(int, shape.split(","))))))
        return
    resume = options.resume
    done = [json.loads(line) for line in resume.open()] if resume and resume.exists() else []
    cases, failures = [], 0
    for dtype, text, name in itertools.product(
        options.dtypes, SHAPES.split(), [*bench.operators, *BUILT_IN]
    ):
        shape = [int(size) for size in text.split(",")]
        for layout in LAYOUTS if name in bench.operators else LAYOUTS[:1]:
            key = {"operator": name, "format": layout, "dtype": dtype, "shape": shape}
            case = next((c for c in done if c.items() >= key.items()), None)
            if case is None:
                measure = bench.ours if name in bench.operators else bench.built_in
                try:
                    case = {**key, **measure(name, layout, dtype, shape)}
                except Exception as error:
                    failures += 1
                    print(*key.values(), "failed:", repr(error)[-300:], flush=True)
                    continue
                if resume:
                    with resume.open("a") as file:
                        file.write(json.dumps(case) + "\n")
            cases.append(case)
    cases.sort(key=lambda case: (case["operator"], case["format"], case["dtype"]))
    ours = [case for case in cases if case["operator"] in bench.operators]
    built_in = [case for case in cases if case["operator"] not in bench.operators]
    GOLDEN.write_text(
        f'{{"cases": {one_a_line(ours)},\n"built_in": {one_a_line(built_in)}}}\n',
    )
    print(f"{len(cases)} cases measured, {failures} failed")
    raise SystemExit(failures > 0)


if __name__ == "__main__":
    main()
