"""The command line of `bn3d bench` and `benchmarks/bench_batch_norm.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bn3d.commands.bench.cases import MODES, STEPS, Case, Mode, Step, all_cases, quick_cases
from bn3d.commands.options import Device, folder

__all__ = ["bench"]


def bench(
    context: typer.Context,
    quick: Annotated[
        bool, typer.Option("--quick", help="A smoke run: one shape, GRAPH_MODE.")
    ] = False,
    mode: Annotated[list[Mode] | None, typer.Option(help="Only this mode.")] = None,
    step: Annotated[list[Step] | None, typer.Option(help="Only this step.")] = None,
    shape: Annotated[list[str] | None, typer.Option(help="Only this shape: 2,64,16,56,56.")] = None,
    layers: Annotated[bool, typer.Option(help="Measure the layers.")] = True,
    kernels: Annotated[bool, typer.Option(help="Measure the kernels alone.")] = True,
    profile: Annotated[bool, typer.Option("--profile", help="Show where a step goes.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: usable cores.")] = None,
    blocks: Annotated[int, typer.Option(min=1, help="Turns for each provider.")] = 7,
    device: Annotated[
        Device, typer.Option(help="Ascend: against stock there, with GB/s and the roofline.")
    ] = Device.CPU,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder of bench.json and bench.svg.", callback=folder),
    ] = Path("out"),
) -> None:
    """Measure bn3d against stock MindSpore, PyTorch and a copy of the tensor."""
    cases = quick_cases() if quick else all_cases()
    if shape:
        wanted = [_parse_shape(text) for text in shape]
        cases = [case for case in cases if case.shape in wanted] or [Case(s) for s in wanted]
    modes = [m.value for m in mode] if mode else ["GRAPH_MODE"] if quick else list(MODES)
    steps = [s.value for s in step] if step else list(STEPS)
    if device is not Device.CPU:
        _refuse(context, ("layers", "kernels", "profile"))
    # NumPy and rich take longer to load than all that `--help` needs.
    from bn3d.commands.bench import run  # noqa: PLC0415

    run.run(
        cases,
        modes=modes,
        steps=steps,
        layers=layers,
        kernels=kernels,
        profile=profile,
        threads=threads,
        blocks=None if quick else blocks,
        device=device.value,
        output=output,
    )


def _refuse(context: typer.Context, options: tuple[str, ...]) -> None:
    """Raise BadParameter for an option that was given, and means nothing on this device."""
    for option in options:
        source = context.get_parameter_source(option)
        if source is not None and source.name != "DEFAULT":
            raise typer.BadParameter(f"--{option} (or --no-{option}) is for --device CPU only")


def _parse_shape(text: str) -> tuple[int, int, int, int, int]:
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if len(shape) != 5 or min(shape) < 1:
        raise typer.BadParameter(f"a shape is five positive numbers N,C,D,H,W, got {text!r}")
    return shape
