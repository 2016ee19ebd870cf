"""A whole run: measures, prints the tables, writes the files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import typer
from rich.console import Console

from bn3d import convolutions, outputs
from bn3d.commands.bench import report
from bn3d.commands.bench.cases import Case
from bn3d.commands.bench.device import device_table, measure_device
from bn3d.commands.bench.session import (
    measuring_process,
    run_kernels,
    run_layers,
    run_waiting,
    usable_cores,
)
from bn3d.commands.bench.timing import BUSY, Effort
from bn3d.commands.progress import progress

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
    console = Console(width=None if sys.stdout.isatty() else 140)
    if said := convolutions.use_fast():
        console.print(said)
    threads = threads or usable_cores()
    effort = QUICK if blocks is None else Effort(blocks)
    if device != "CPU":
        _bench_device(device, cases, modes, steps, threads, effort, output, console)
        return
    result = measure(
        cases,
        modes=modes if layers else [],
        steps=steps,
        kernels=kernels,
        profile=profile,
        threads=threads,
        effort=effort,
        console=console,
    )
    _print(result, console, profile, quick=blocks is None)
    outputs.write_text(output / "bench.json", json.dumps(result, indent=1) + "\n")
    console.print(f"wrote {output / 'bench.json'}")
    _draw(result, output / "bench.svg", console)


def measure(
    cases: list[Case],
    modes: list[str],
    steps: list[str],
    kernels: bool,
    profile: bool,
    threads: int,
    effort: Effort,
    console: Console,
) -> dict:
    """Everything that `bench` writes to its JSON file."""
    result = {**report.describe_run(threads), "waiting": {}, "layers": [], "kernels": []}
    total = len(cases) * (len(modes) * len(steps) + kernels)
    with progress("bench", total, console.file) as shown:
        for mode in modes:
            with measuring_process(mode, threads) as run:
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
    console: Console,
) -> None:
    from bn3d.commands.verify.session import DeviceError, set_device  # noqa: PLC0415 - imports MindSpore

    try:
        set_device(device)
    except DeviceError as error:
        typer.echo(f"bn3d: {error}", err=True)
        raise typer.Exit(2) from None
    rows = measure_device(device, cases, modes, steps, threads, effort, console)
    console.print(device_table(rows))
    for row in rows:
        for name, reason in row["refused"].items():
            console.print(f"{row['mode']} {row['step']} {report.case_of(row)}: {name}: {reason}")
    path = output / f"bench_{device.lower()}.json"
    result = {**report.describe_run(threads), "layers": rows}
    outputs.write_text(path, json.dumps(result, indent=1) + "\n")
    console.print(f"wrote {path}")


def _print(result: dict, console: Console, profile: bool, quick: bool) -> None:
    layers, kernels = result["layers"], result["kernels"]
    for mode, step in dict.fromkeys((row["mode"], row["step"]) for row in layers):
        console.print(report.layer_table(layers, mode, step))
    for row in layers:
        for name, reason in row["refused"].items():
            console.print(f"{row['mode']} {row['step']} {report.case_of(row)}: {name}: {reason}")
    if kernels:
        console.print(report.kernel_table(kernels))
    busy = max((row["other_load_cores"] for row in (*layers, *kernels)), default=0.0)
    if busy > BUSY:
        console.print(f"Warning: other work kept up to {busy} cores busy: measure again")
    if layers and (quick or busy > BUSY):
        why = "this was a quick run" if quick else "the machine was busy"
        console.print(f"No summary: {why}")
    elif layers:
        console.print(report.ratio_table(result["ratios"]))
    if profile:
        console.print(report.profile_table(layers))


def _draw(result: dict, path: Path, console: Console) -> None:
    if not result["layers"]:
        return
    try:
        from bn3d.commands.bench.picture import draw  # noqa: PLC0415 - matplotlib is in the extra "demo"
    except ImportError:
        console.print("no picture: matplotlib is not installed (pip install matplotlib)")
        return
    draw(result["layers"], path)
    console.print(f"wrote {path}")
