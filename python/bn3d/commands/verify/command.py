"""The command line of `bn3d verify`."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from bn3d import tables
from bn3d.commands.options import Device, Json

if TYPE_CHECKING:
    from bn3d.commands.verify.check import Check

__all__ = ["verify"]

_SHOWN = 20  # failures, one line each


def verify(
    device: Annotated[Device, typer.Option(help="What to compute on.")] = Device.CPU,
    quick: Annotated[bool, typer.Option("--quick", help="Two small shapes.")] = False,
    output: Json = None,
) -> None:
    """Compare every operator and the layer with the NumPy formulas in float64.

    Exit code 0: all within tolerance; 1: some are not; 2: the device or its backend is not there.
    """
    # MindSpore takes seconds to load, which `--help` should not; rich its part.
    from bn3d.commands import json_output  # noqa: PLC0415
    from bn3d.commands.info import info  # noqa: PLC0415
    from bn3d.commands.progress import progress  # noqa: PLC0415
    from bn3d.commands.verify import session  # noqa: PLC0415

    try:
        choice = session.set_device(device.value)
    except (RuntimeError, ValueError) as error:
        tables.say_error(str(error))
        raise typer.Exit(2) from None
    shapes = session.QUICK_SHAPES if quick else session.SHAPES
    total = session.count(choice, shapes)
    with progress("verify", total, json_output.stream_beside(output)) as shown:
        checks = list(
            session.verify(
                choice,
                shapes,
                on_case=lambda case: shown.advance(f"{case.mode} {case.dtype} {case.shape}"),
            )
        )
    if output != json_output.STANDARD_OUTPUT:
        _show(checks, f"backend {choice.name} on {device.value}")
    if output is not None:
        report = {
            "device": device.value,
            "backend": choice.name,
            "environment": dict(info().rows()),
            "checks": [_as_json(check) for check in checks],
        }
        json_output.write(output, report)
    raise typer.Exit(0 if all(check.ok for check in checks) else 1)


def _show(checks: list[Check], of_what: str) -> None:
    """The verdict, the table, and what is wrong."""
    wrong = [check for check in checks if not check.ok]
    tables.say(
        f"wrong: {len(wrong)} of {len(checks)} checks failed, {of_what}"
        if wrong
        else f"right: all {len(checks)} checks passed, {of_what}"
    )
    tables.say("\nWorst error of each output over all shapes and modes, relative to its scale:\n")
    print(_table(checks, tables.width_of()))
    if wrong:
        print()
    for check in wrong[:_SHOWN]:
        tables.say(
            f"{check.subject} {check.output} {check.case.mode} {check.case.dtype} "
            f"{check.case.shape}: {check.failure or f'error {check.error:.1e}'}"
        )
    if len(wrong) > _SHOWN:
        tables.say(f"and {len(wrong) - _SHOWN} more, which --json FILE writes")


def _table(checks: list[Check], width: int | None) -> str:
    """A row for each output, a column for each dtype."""
    from bn3d.reference import TOLERANCES  # noqa: PLC0415

    dtypes = list(dict.fromkeys(check.case.dtype for check in checks))
    rows = []
    for subject, output in dict.fromkeys((check.subject, check.output) for check in checks):
        cells = []
        for dtype in dtypes:
            chosen = [
                check
                for check in checks
                if (check.subject, check.output, check.case.dtype) == (subject, output, dtype)
            ]
            cells.append(_cell(chosen))
        rows.append((subject, output, *cells))
    rows.append(("tolerance", "", *(f"{TOLERANCES[dtype]:.1e}" for dtype in dtypes)))
    return tables.table(("checked", "output", *dtypes), rows, width, names=2)


def _cell(checks: list[Check]) -> str:
    if not checks:
        return ""
    errors = [check.error for check in checks]
    worst = "none" if any(map(math.isnan, errors)) else f"{max(errors):.1e}"
    return worst if all(check.ok for check in checks) else f"{worst} FAILED"


def _as_json(check: Check) -> dict:
    fields = asdict(check)
    fields.update(fields.pop("case"))
    return {**fields, "error": None if math.isnan(check.error) else check.error, "ok": check.ok}
