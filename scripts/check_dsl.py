#!/usr/bin/env python3
"""Run the TBE sources through CANN's own DSL front end and tabulate what its schedulers make.

For every operator x SoC x format x dtype, over random shapes: the front end accepts, the
numbers agree with the judge, and a tensor above 1 MiB is scheduled over several cores. No
device and no CANN library take part: it needs a text tree of CANN 8.x and the `real_dsl` tool,
which runs the tree's Python over an expression layer of its own.

    BN3D_DSL_TOOLS=DIR check_dsl.py --mirror GITDIR --output docs/dsl_schedules.md

DIR holds the tool `real_dsl`. In front of its table the document has what the schedules of
ascend910 cost, from scripts/dsl_costs.py.

Needs Python 3.11 and `pip install 'numpy<2' 'ml_dtypes<0.6' sympy decorator attrs psutil typer`.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / p) for p in ("python", "tests/ascend", "op_impl/ai_core/tbe")]

import dsl_costs  # noqa: E402
import engine  # noqa: E402

from bn3d.operators import OPERATORS, Operator  # noqa: E402

LARGE = 2**20  # bytes of x above which one core is not enough
MOST_EVALUATED = 200_000  # elements of x: the numbers of larger ones are not computed
UNIFY_PATTERNS = {"TupleReduce", "Broadcast", "ElemWise"}  # those with a tiling over cores
CASE = ("operator", "soc", "format", "dtype")
MEAN_OVER_STD = (0.0, 2.0, 1000.0)


class FrontEnd:
    """The real front end, with operators imported by name, as the engine imports them."""

    def __init__(self, real_dsl: Path, cann: Path | None, mirror: Path | None):
        if not (real_dsl / "real_dsl_check.py").is_file():
            raise SystemExit(f"BN3D_DSL_TOOLS: no real_dsl/real_dsl_check.py in {real_dsl.parent}")
        sys.path.insert(0, str(real_dsl))
        tool = importlib.import_module("real_dsl_check")
        import ml_dtypes  # noqa: F401, PLC0415  (registers bfloat16 with NumPy)

        self.rejected = tool.Rejected
        self.dsl = tool.RealDsl(cann and str(cann), mirror and str(mirror))
        self.dsl.load = importlib.import_module
        if cann is None:
            # From a mirror the tool unpacks Python only, without the texts of the front end's
            # errors: raising one would fail. The directory is the tool's own, a temporary one.
            texts = Path(self.dsl.snap.site) / "tbe/common/utils/errormgr/errormanager.json"
            texts.write_text("[]")

    def compile(self, operator: Operator, soc: str, arguments: list[dict], mode: str | None = None):
        """One result for known shapes, one for each case of unknown dimensions."""
        self.dsl.set_soc(soc)
        mode = mode or engine.SOCS[soc][0]
        return self.dsl.op(engine.module_name(operator, mode), operator.module, arguments, mode)

    def outputs(self, result, operator: Operator, inputs, shape, layout: str, dtype: str):
        kinds = [tensor.kind for tensor in operator.inputs]
        arrays = [
            engine.pack(array, layout).astype(dtype if kind == "volume" else "float32")
            for array, kind in zip(inputs.values(), kinds, strict=True)
        ]
        raw, _ = self.dsl.evaluate(result.inputs, result.outputs, arrays)
        return [
            engine.unpack(array.astype(np.float64), tensor.kind, shape, layout)
            for array, tensor in zip(raw, operator.outputs, strict=True)
        ]


def random_shape(rng: np.random.Generator, *, large: bool, itemsize: int):
    """(N, C, D, H, W): C often no multiple of 16, odd extents, ones."""
    while True:
        n = int(rng.choice([1, 2, 3, 4, 8, 32]))
        c = int(rng.choice([1, 3, 16, 17, 20, 32, 64, 100, 256, 512, 2048]))
        extents = (1, 2, 3, 5, 7, 8, 13, 16, 28, 31, 56, 112)
        shape = (n, c, *(int(extent) for extent in rng.choice(extents, 3)))
        elements = math.prod(engine.volume_shape(shape, "NDC1HWC0"))
        if not large and elements <= MOST_EVALUATED:
            return shape
        if large and math.prod(shape) * itemsize > LARGE and elements < 2**28:
            return shape


def name_of(schedule: dict) -> str:
    """`static ReduceAtomic` or `unify TupleReduce`."""
    if schedule["path"] == "unify":
        return f"unify {schedule['pattern']}"
    made = [template.strip() for template, verdict in schedule["tried"] if verdict == "made"]
    return "static " + made[-1].split(".")[0].removesuffix("Schedule")


def check(front_end: FrontEnd, case: dict, evaluated: int, large: int, seed: int) -> dict:
    """`evaluated` shapes with their numbers, `large` ones above 1 MiB with their schedule only."""
    operator = next(operator for operator in OPERATORS if operator.type == case["operator"])
    soc, layout, dtype = case["soc"], case["format"], case["dtype"]
    itemsize = 4 if dtype == "float32" else 2
    rng = np.random.default_rng([seed, *map(ord, "".join(case.values()))])
    schedules, failures, worst, cores = Counter(), [], 0.0, None
    volume = operator.outputs[0].kind == "volume"
    tolerance = engine.TOLERANCE[dtype if volume else "float32"]
    for index in range(evaluated + large):
        shape = random_shape(rng, large=index >= evaluated, itemsize=itemsize)
        try:
            arguments = engine.descriptions(operator, shape, layout, dtype)
            (result,) = front_end.compile(operator, soc, arguments)
        except front_end.rejected as error:
            failures.append(f"{shape}: {error}")
            continue
        schedule = result.schedule
        schedules[name_of(schedule)] += 1
        if schedule.get("auto_cast"):
            failures.append(f"{shape}: outputs cast to another dtype {schedule['auto_cast']}")
        if math.prod(shape) * itemsize > LARGE:
            if schedule["path"] == "static":
                cores = min(cores or schedule["cores"], schedule["cores"])
                single = schedule["cores"] < 2
            else:
                single = schedule["pattern"] not in UNIFY_PATTERNS
            if single:
                failures.append(f"{shape}: one core by {name_of(schedule)}")
        if index < evaluated:
            ratio = float(rng.choice(MEAN_OVER_STD))
            inputs = engine.random_inputs(operator, shape, dtype, ratio, index)
            outputs = front_end.outputs(result, operator, inputs, shape, layout, dtype)
            error = max(engine.errors(operator, inputs, outputs))
            worst = max(worst, error)
            if not error < tolerance:
                failures.append(f"{shape}: error {error:.1e} at mean/std = {ratio}")
    return {
        **case,
        "evaluated": evaluated,
        "large": large,
        "schedules": schedules,
        "cores": cores,
        "error": worst,
        "failures": failures,
    }


def check_unknown(front_end: FrontEnd, operator: Operator, soc: str, layout: str) -> Counter:
    """The patterns of the cases that a volume without one known dimension makes."""
    arguments = engine.descriptions(operator, (2, 32, 2, 2, 2), layout, "float16")
    for tensor in arguments:
        tensor["shape"] = [size if size in (1, engine.C0) else -1 for size in tensor["shape"]]
        tensor["ori_shape"] = [-1] * len(tensor["ori_shape"])
        tensor["range"] = [(1, None) if size == -1 else (size, size) for size in tensor["shape"]]
    results = front_end.compile(operator, soc, arguments, "dynamic")
    return Counter(result.schedule["pattern"] for result in results)


def unknown_table(front_end: FrontEnd) -> list[str]:
    lines = ["| operator | SoC | format | patterns (number of cases) |", "|---|---|---|---|"]
    for operator in OPERATORS:
        for soc in engine.SOCS:
            for layout in engine.FORMATS:
                patterns = check_unknown(front_end, operator, soc, layout)
                if not set(patterns) <= UNIFY_PATTERNS:
                    raise SystemExit(f"{operator.type} {soc} {layout}: {dict(patterns)}")
                made = ", ".join(f"{name} ({count})" for name, count in patterns.items())
                lines.append(f"| {operator.type} | {soc} | {layout} | {made} |")
    return lines


def table(results: list[dict]) -> list[str]:
    """One line for each operator, SoC and format; the dtypes' largest errors side by side."""
    lines = [
        "| operator | SoC | format | shapes | schedule (number of shapes) | "
        "fewest cores above 1 MiB | largest error float32 | float16 | bfloat16 | failures |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple, list[dict]] = {}
    for result in results:
        groups.setdefault((result["operator"], result["soc"], result["format"]), []).append(result)
    for key, group in groups.items():
        schedules = sum((Counter(result["schedules"]) for result in group), Counter())
        made = ", ".join(f"{name} ({count})" for name, count in schedules.most_common())
        cores = min((r["cores"] for r in group if r["cores"]), default="by tiling")
        errors = {result["dtype"]: f"{result['error']:.1e}" for result in group}
        shapes = sum(result["evaluated"] + result["large"] for result in group)
        cells = [*key, shapes, made, cores]
        cells += [errors.get(dtype, "-") for dtype in ("float32", "float16", "bfloat16")]
        cells.append(sum(len(result["failures"]) for result in group))
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def main(
    tools: Annotated[
        Path, typer.Option(envvar="BN3D_DSL_TOOLS", help="directory of the tool real_dsl")
    ] = Path(),
    cann: Annotated[Path | None, typer.Option(envvar="REAL_DSL_CANN", help="CANN tree")] = None,
    mirror: Annotated[
        Path | None, typer.Option(envvar="REAL_DSL_MIRROR", help="git directory of a CANN tree")
    ] = None,
    shapes: Annotated[int, typer.Option(help="of each case, numbers computed")] = 100,
    large: Annotated[int, typer.Option(help="further ones above 1 MiB, schedule only")] = 40,
    seed: int = 1,
    output: Annotated[Path | None, typer.Option(help="Markdown file with the table")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="JSON lines of finished cases: kept, and continued from")
    ] = None,
) -> None:
    """Exit status 1 if any case failed."""
    done = [json.loads(line) for line in resume.open()] if resume and resume.exists() else []
    front_end = FrontEnd(tools / "real_dsl", cann, mirror)
    results = []
    for operator in OPERATORS:
        for soc, (_, dtypes) in engine.SOCS.items():
            for layout in engine.FORMATS:
                for dtype in dtypes:
                    case = dict(zip(CASE, (operator.type, soc, layout, dtype), strict=True))
                    result = next((r for r in done if r.items() >= case.items()), None)
                    if result is None:
                        result = check(front_end, case, shapes, large, seed)
                        if resume:
                            with resume.open("a") as file:
                                file.write(json.dumps(result) + "\n")
                    results.append(result)
                    print(*case.values(), dict(result["schedules"]), f"{result['error']:.1e}")
                    for failure in result["failures"]:
                        print("   ", failure)
    if output:
        command = f"scripts/check_dsl.py --shapes {shapes} --large {large} --seed {seed}"
        text = [*dsl_costs.document(), *RECOGNISED, "", f"    {command}", ""]
        text += [*table(results), "", *UNKNOWN, "", *unknown_table(front_end), ""]
        output.write_text("\n".join(text))
    failures = sum(len(result["failures"]) for result in results)
    total = sum(result["evaluated"] + result["large"] for result in results)
    print(f"{total} compilations, {failures} failures")
    raise typer.Exit(1 if failures else 0)


RECOGNISED = f"""{dsl_costs.HEADING}

Written by `scripts/check_dsl.py` over random shapes, on the Python sources of a CANN 8.1.RC1 text
tree. "Static" names the template that the static scheduler made; its cores are the blocks it
bound. "Unify" names the pattern that the unify scheduler recognised; its cores are chosen by
tiling, which is C++ and was not run. The error of a volume is relative to its largest value, that
of a sum to the sum of its terms' absolute values; mean/std of x is 0, 2 or 1000. The command,
with paths left out:""".splitlines()


UNKNOWN = """## Unknown dimensions

No dimension known but C0: the patterns that the unify scheduler recognises in the cases it
makes. Their tiling happens at launch, in C++; neither it nor the numbers were run.""".splitlines()


if __name__ == "__main__":
    typer.run(main)
