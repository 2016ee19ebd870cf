"""Tables, ratios, and what a run depends on."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterable
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path

import numpy as np
from rich.table import Table

from bn3d.commands.bench.cases import MODES, STEPS, Case

__all__ = [
    "case_of",
    "describe_run",
    "kernel_table",
    "layer_table",
    "median",
    "profile_table",
    "quantiles",
    "ratio_table",
    "ratios",
]

OTHERS = ("stock", "torch")
COLUMNS = ("bn3d", *OTHERS, "copy")


def describe_run(threads: int) -> dict:
    """What a number depends on: versions, machine, command, date."""
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "threads": threads,
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in ("bn3d", "mindspore", "numpy", "torch")},
        },
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def case_of(row: dict) -> Case:
    return Case(tuple(row["shape"]), row["dtype"])


def median(row: dict, name: str) -> float | None:
    timing = row["milliseconds"].get(name)
    return timing and timing["p50"]


def layer_table(rows: list[dict], mode: str, step: str) -> Table:
    table = _table(f"{mode} {step}, milliseconds a call: median (20 %..80 %)")
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("stock\n/ bn3d", "torch\n/ bn3d"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in _select(rows, mode, step):
        times = [quantiles(row, name) for name in COLUMNS]
        against = [_times(_ratio(row, name)) for name in OTHERS]
        table.add_row(str(case_of(row)), *times, *against)
    return table


def kernel_table(rows: list[dict]) -> Table:
    """Kernels in copies: 1.00 is one read and one write of the tensor."""
    table = _table("Kernels alone, in copies of the tensor")
    names = [name for name in rows[0]["milliseconds"] if name != "copy"]
    for name in (*names, "copy, ms"):
        table.add_column(_in_lines(name.removeprefix("Bn3d")), justify="right")
    for row in rows:
        times = {name: timing["p50"] for name, timing in row["milliseconds"].items()}
        copies = [f"{times[name] / times['copy']:.2f}" for name in names]
        table.add_row(str(case_of(row)), *copies, _three_digits(times["copy"]))
    return table


def ratios(rows: Iterable[dict]) -> list[dict]:
    """How many times faster bn3d is: over float32 cases from 2 MB up, and over smaller ones."""
    rows = [row for row in rows if row["dtype"] == "float32"]
    found = []
    for mode, step, small, other in product(MODES, STEPS, (False, True), OTHERS):
        chosen = [row for row in _select(rows, mode, step) if case_of(row).is_small is small]
        values = [r for r in (_ratio(row, other) for row in chosen) if r is not None]
        if values:
            found.append(
                {
                    "mode": mode,
                    "step": step,
                    "small": small,
                    "against": other,
                    "geometric_mean": round(float(np.exp(np.mean(np.log(values)))), 3),
                    "least": round(min(values), 3),
                    "cases": len(values),
                }
            )
    return found


def ratio_table(found: list[dict]) -> Table:
    table = Table(title="bn3d is faster by: geometric mean (least), float32")
    for name in ("mode", "step", "cases", "against stock", "against torch"):
        table.add_column(name, justify="left" if name in ("mode", "step") else "right")
    for mode, step, small in product(MODES, STEPS, (False, True)):
        cells = {
            r["against"]: r
            for r in found
            if (r["mode"], r["step"], r["small"]) == (mode, step, small)
        }
        if cells:
            size = "below 2 MB" if small else "2 MB and up"
            table.add_row(mode, step, size, *(_mean_and_least(cells.get(n)) for n in OTHERS))
    return table


def profile_table(layers: list[dict]) -> Table:
    """Where a bn3d step's time goes: its kernels, and what the framework adds around them."""
    table = _table("Where a step of bn3d goes, microseconds")
    for name in ("mode", "step", "layer", "kernels", "framework", "fresh pages", "copy"):
        table.add_column(name, justify="left" if name in ("mode", "step") else "right")
    for row in layers:
        layer, inside = median(row, "bn3d"), median(row, "kernels")
        if layer is None or inside is None:
            continue
        table.add_row(
            str(case_of(row)),
            row["mode"],
            row["step"],
            *(f"{value * 1e3:.0f}" for value in (layer, inside, layer - inside)),
            f"{row['milliseconds']['bn3d']['page_faults']:.0f}",
            f"{row['milliseconds']['copy']['p50'] * 1e3:.0f}",
        )
    return table


def _table(title: str) -> Table:
    table = Table(title=title)
    table.add_column("case", no_wrap=True)
    return table


def _in_lines(name: str) -> str:
    """GradReduce -> Grad, Reduce: columns as narrow as their numbers."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "\n", name)


def _select(rows: Iterable[dict], mode: str, step: str) -> list[dict]:
    return [row for row in rows if (row["mode"], row["step"]) == (mode, step)]


def quantiles(row: dict, name: str) -> str:
    """A contender's "median (20 %..80 %)" in milliseconds, or why it refused."""
    timing = row["milliseconds"].get(name)
    if timing is None:
        return row["refused"][name].split(":")[0]
    p20, p50, p80 = (_three_digits(timing[key]) for key in ("p20", "p50", "p80"))
    return f"{p50} ({p20}..{p80})"


def _three_digits(value: float) -> str:
    return f"{value:.3f}"[:5].rstrip(".")


def _ratio(row: dict, other: str) -> float | None:
    ours, theirs = median(row, "bn3d"), median(row, other)
    return None if ours is None or theirs is None else theirs / ours


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _mean_and_least(cell: dict | None) -> str:
    return "" if cell is None else f"{cell['geometric_mean']:.2f} ({cell['least']:.2f})"
