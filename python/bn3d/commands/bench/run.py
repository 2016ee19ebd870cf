"""A whole run: measures, prints the tables, writes the files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import typer

from bn3d import convolutions, outputs
from bn3d.commands.bench import report
from bn3d.commands.bench.cases import Case
from bn3d.commands.bench.device import device_table, measure_device
from bn3d.commands.bench.layers import refuses
from bn3d.commands.bench.session import (
    measuring_process,
    no_backend,
    run_kernels,
    run_layers,
    run_waiting,
    usable_cores,
)
from bn3d.commands.bench.timing import Effort
from bn3d.commands.progress import progress
from bn3d.tables import say, say_error, width_of

__all__ = ["measure", "run"]

QUICK = Effort(blocks=1, block_seconds=0.01, most_calls=5)


def run(
    cases: list[Case],
    modes: list[str],
    steps: list[str],
    layers: bool,
    kernels: bool,
    profile: bool,
    threads: int | None,
    blocks: int | None,
    device: str,
    output: Path,
) -> None:
    """What `bn3d bench` does once its options are read; `blocks` None is a quick run."""
    if said := convolutions.use_fast():
        say(said)
    threads = threads or usable_cores()
    effort = QUICK if blocks is None else Effort(blocks)
    if device != "CPU":
        _bench_device(device, cases, modes, steps, threads, effort, output)
        return
    result = measure(
        cases,
        modes=modes if layers else [],
        steps=steps,
        kernels=kernels,
        profile=profile,
        threads=threads,
        effort=effort,
    )
    _print(result, profile, quick=blocks is None)
    outputs.write_text(output / "bench.json", json.dumps(result, indent=1) + "\n")
    outputs.say_written(output / "bench.json")
    _draw(result, output / "bench.svg")


def measure(
    cases: list[Case],
    modes: list[str],
    steps: list[str],
    kernels: bool,
    profile: bool,
    threads: int,
    effort: Effort,
) -> dict:
    """Everything that `bench` writes to its JSON file."""
    result = {**report.describe_run(threads), "waiting": {}, "layers": [], "kernels": []}
    total = len(cases) * (len(modes) * len(steps) + kernels)
    with progress("bench", total) as shown:
        for mode in modes:
            with measuring_process(mode, threads) as run:
                if why := run(no_backend):
                    raise _stopped(why)
                result["waiting"][mode] = run(run_waiting)
                for case in cases:
                    for step in steps:
                        shown.say(f"{mode} {step} {case}")
                        row = run(run_layers, case, step, threads, effort, profile)
                        result["layers"].append({"mode": mode, **row})
                        shown.advance()
        if kernels:
            with measuring_process(None, threads) as run:
                for case in cases:
                    shown.say(f"kernels {case}")
                    result["kernels"].append(run(run_kernels, case, threads, effort))
                    shown.advance()
    result["ratios"] = report.ratios(result["layers"])
    return result


def _bench_device(
    device: str,
    cases: list[Case],
    modes: list[str],
    steps: list[str],
    threads: int,
    effort: Effort,
    output: Path,
) -> None:
    from bn3d.commands.verify.session import set_device  # noqa: PLC0415 - imports MindSpore

    try:
        set_device(device)
    except (RuntimeError, ValueError) as error:
        raise _stopped(str(error)) from None
    rows = measure_device(device, cases, modes, steps, threads, effort)
    if not report.quiet(rows):
        say(f"Warning: {report.busy(rows)}: measure again\n")
    print(device_table(rows, width_of()))
    _say_refused(rows)
    path = output / f"bench_{device.lower()}.json"
    result = {**report.describe_run(threads), "layers": rows}
    outputs.write_text(path, json.dumps(result, indent=1) + "\n")
    outputs.say_written(path)


def _stopped(why: str) -> typer.Exit:
    say_error(why)
    return typer.Exit(2)


def _print(result: dict, profile: bool, quick: bool) -> None:
    """What it comes to, what speaks against it, and then all that was measured."""
    layers, kernels = result["layers"], result["kernels"]
    rows = [*layers, *kernels]
    width = width_of()
    if not report.quiet(rows):
        say(f"Not measured: the machine is busy ({report.busy(rows)}): measure again\n")
    elif quick:
        say("No summary: this was a quick run\n")
    elif layers:
        print(report.ratio_table(result["ratios"], width))
    if said := report.wide(rows):
        say(f"Warning: {said}: measure again\n")
    for mode, step in dict.fromkeys((row["mode"], row["step"]) for row in layers):
        print(report.layer_table(layers, mode, step, width))
    _say_refused(layers)
    if kernels:
        print(report.kernel_table(kernels, width))
    if profile:
        print(report.profile_table(layers, width))


def _say_refused(rows: list[dict]) -> None:
    """A line for each that has no times and its reason, with the first row where it was so."""
    where: dict[str, list[dict]] = {}
    for row in rows:
        for name, reason in row["refused"].items():
            said = name + (" " if reason == refuses(report.case_of(row)) else ": ") + reason
            where.setdefault(said, []).append(row)
    for said, those in where.items():
        first = f"{those[0]['mode']} {those[0]['step']} {report.case_of(those[0])}"
        more = f" and {len(those) - 1} more" if len(those) > 1 else ""
        say(said if ": " not in said else f"{said} ({first}{more})")


def _draw(result: dict, path: Path) -> None:
    if not result["layers"]:
        return
    try:
        from bn3d.commands.bench.picture import draw  # noqa: PLC0415 - matplotlib is in the extra "demo"
    except ImportError:
        say(f"no picture: matplotlib is missing: {sys.executable} -m pip install matplotlib")
        return
    draw(result["layers"], path)
    outputs.say_written(path)
