"""`bn3d bench --device Ascend`: bn3d against stock on an accelerator, in GB/s and of the roofline.

An accelerator works behind the host, so calls are timed in blocks with one wait at the end. The
roofline is measured, too: most steps are bound by memory (docs/ascend_reference.md says which),
and an addition of a number to the volume, which reads it once and writes it once, shows what that
gives.
"""

from __future__ import annotations

from dataclasses import asdict

from bn3d.commands.bench.cases import Case
from bn3d.commands.bench.layers import addition, bn3d_layer, prepared, stock_layer
from bn3d.commands.bench.session import measuring_process
from bn3d.commands.bench.timing import Effort, other_load, take_turns, together
from bn3d.commands.progress import progress
from bn3d.tables import fold, table

__all__ = ["device_table", "measure_device", "volumes_moved"]

PROVIDERS = {"bn3d": bn3d_layer, "stock": stock_layer, "copy": addition}


def volumes_moved(step: str, reductions: int) -> int:
    """Volumes that bn3d's operators read plus write in a step; `reductions` as in
    `bn3d.backends.split.settings`.
    """
    training = reductions + 2  # each Bn3dReduce, Bn3dApply
    backward = 2 + 3  # Bn3dGradReduce, Bn3dGradApply
    return {"inference": 2, "training": training, "forward_backward": training + backward}[step]


def measure_device(
    device: str,
    cases: list[Case],
    modes: list[str],
    steps: list[str],
    threads: int,
    effort: Effort,
) -> list[dict]:
    """A row for each mode, case and step; each mode in a process of its own."""
    rows = []
    with progress("bench", len(modes) * len(cases) * len(steps)) as shown:
        for mode in modes:
            with measuring_process(mode, threads) as run:
                for case in cases:
                    for step in steps:
                        shown.say(f"{device} {mode} {step} {case}")
                        rows.append({"mode": mode, **run(_run, device, case, step, effort)})
                        shown.advance()
    return rows


def device_table(rows: list[dict], width: int | None = None) -> str:
    """How much faster than stock, how near to the roofline, and medians."""
    lines = []
    for row in rows:
        times = row["milliseconds"]
        bn3d, stock = times.get("bn3d"), times.get("stock")
        lines.append(
            (
                str(Case(tuple(row["shape"]), row["dtype"])),
                row["mode"].removesuffix("_MODE"),
                row["step"],
                _number(bn3d and stock and stock / bn3d, ".2f"),
                _number(row["of_the_roofline"], ".0%"),
                _number(bn3d, ".3f"),
                _number(stock, ".3f"),
                _number(row["gigabytes_a_second"], ".0f"),
                _number(row["memory_gigabytes_a_second"], ".0f"),
            )
        )
    title = "Times faster than stock, of the roofline, milliseconds a call (median), GB/s"
    names, numbers = ("case", "mode", "step"), ("x stock", "roofline", "bn3d", "stock")
    header = (*names, *numbers, "bn3d GB/s", "memory GB/s")
    return f"{fold(title, width)}\n\n{table(header, lines, width, len(names))}\n"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _run(device: str, case: Case, step: str, effort: Effort) -> dict:
    """One row, in the measuring process."""
    from bn3d import backends  # noqa: PLC0415 - imports MindSpore
    from bn3d.backends import split  # noqa: PLC0415
    from bn3d.commands.verify.session import use_device  # noqa: PLC0415

    use_device(device)
    calls, refused = prepared(PROVIDERS, case, step, _wait)
    load = other_load()
    times = {
        name: timing.p50 for name, timing in take_turns(calls, effort, together(_wait)).items()
    }
    other = round(load(), 2)
    reductions = split.settings(0.0, 0.0)[2]
    moved = case.nbytes * volumes_moved(step, reductions)
    achieved = moved / times["bn3d"] / 1e6 if "bn3d" in times else None
    memory = 2 * case.nbytes / times["copy"] / 1e6
    return {
        **asdict(case),
        "device": device,
        "backend": backends.choose().name,
        "step": step,
        "other_load_cores": other,
        "reductions": reductions,
        "bytes_moved": moved,
        "milliseconds": {name: round(value, 5) for name, value in times.items()},
        "gigabytes_a_second": achieved and round(achieved, 2),
        "memory_gigabytes_a_second": round(memory, 2),
        "of_the_roofline": achieved and round(achieved / memory, 4),
        "refused": refused,
    }


def _wait() -> None:
    import mindspore as ms  # noqa: PLC0415

    ms.runtime.synchronize()
