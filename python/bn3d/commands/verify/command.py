"""The command line of `bn3d verify`."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bn3d import outputs
from bn3d.commands.options import Device, file

if TYPE_CHECKING:
    from rich.table import Table

    from bn3d.commands.verify.check import Check

__all__ = ["verify"]


def verify(
    device: Annotated[Device, typer.Option(help="What to compute on.")] = Device.CPU,
    quick: Annotated[bool, typer.Option("--quick", help="Two small shapes.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--json", help="Write all results there, for a bug report.", callback=file),
    ] = None,
) -> None:
    """Compare every operator and the layer with the NumPy formulas in float64.

    Exit code 0: all within tolerance; 1: some are not; 2: the device or its backend is not there.
    """
    # MindSpore takes seconds to load, which `--help` should not; rich its part.
    from rich.console import Console  # noqa: PLC0415

    from bn3d.commands.info import info  # noqa: PLC0415
    from bn3d.commands.progress import progress  # noqa: PLC0415
    from bn3d.commands.verify import session  # noqa: PLC0415

    console = Console()
    try:
        choice = session.set_device(device.value)
    except (RuntimeError, ValueError) as error:
        typer.echo(f"bn3d: {error}", err=True)
        raise typer.Exit(2) from None
    shapes = session.QUICK_SHAPES if quick else session.SHAPES
    with progress("verify", session.count(choice, shapes), console.file) as shown:
        checks = list(
            session.verify(
                choice,
                shapes,
                on_case=lambda case: shown.advance(f"{case.mode} {case.dtype} {case.shape}"),
            )
        )
    console.print(_table(checks, f"{choice.name} backend on {device.value}"))
    wrong = [check for check in checks if not check.ok]
    for check in wrong[:20]:
        console.print(
            f"{check.subject} {check.output} {check.case.mode} {check.case.dtype} "
            f"{check.case.shape}: {check.failure or f'error {check.error:.1e}'}",
            markup=False,
            soft_wrap=True,
        )
    console.print(f"{len(checks) - len(wrong)} of {len(checks)} checks passed")
    if output is not None:
        report = {
            "device": device.value,
            "backend": choice.name,
            "environment": dict(info().rows()),
            "checks": [_as_json(check) for check in checks],
        }
        outputs.write_text(output, json.dumps(report, indent=1) + "\n")
        outputs.say_written(output)
    raise typer.Exit(1 if wrong else 0)


def _table(checks: list[Check], title: str) -> Table:
    """The worst error of each output over all shapes and modes, a column for each dtype."""
    from rich.table import Table  # noqa: PLC0415

    from bn3d.reference import TOLERANCES  # noqa: PLC0415

    dtypes = list(dict.fromkeys(check.case.dtype for check in checks))
    table = Table(title=f"{title}: worst error of its scale")
    table.add_column("checked")
    table.add_column("output")
    for dtype in dtypes:
        table.add_column(f"{dtype}\n<= {TOLERANCES[dtype]:.0e}", justify="right")
    for subject, output in dict.fromkeys((check.subject, check.output) for check in checks):
        cells = []
        for dtype in dtypes:
            chosen = [
                check
                for check in checks
                if (check.subject, check.output, check.case.dtype) == (subject, output, dtype)
            ]
            cells.append(_cell(chosen))
        table.add_row(subject, output, *cells)
    return table


def _cell(checks: list[Check]) -> str:
    if not checks:
        return ""
    errors = [check.error for check in checks]
    worst = "none" if any(map(math.isnan, errors)) else f"{max(errors):.1e}"
    return worst if all(check.ok for check in checks) else f"[red]{worst} FAILED[/]"


def _as_json(check: Check) -> dict:
    fields = asdict(check)
    fields.update(fields.pop("case"))
    return {**fields, "error": None if math.isnan(check.error) else check.error, "ok": check.ok}
