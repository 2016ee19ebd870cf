"""Tables, ratios, and what a run depends on."""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path

import numpy as np

from bn3d import tables
from bn3d.commands.bench.cases import MODES, STEPS, Case
from bn3d.commands.bench.timing import BUSY, SPREAD

__all__ = [
    "busy",
    "case_of",
    "describe_run",
    "kernel_table",
    "layer_table",
    "median",
    "milliseconds",
    "profile_table",
    "quiet",
    "ratio_table",
    "ratios",
    "spread",
    "wide",
]

OTHERS = ("stock", "torch")
COLUMNS = ("bn3d", *OTHERS, "copy")
# Copies of the tensor, a read and a write each, that a step takes if it moves each byte once: x to
# y, and for the gradient dy and x to dx.
_LEAST_COPIES = {"training": 1.0, "inference": 1.0, "forward_backward": 2.5}
_AGAINST = tuple(f"x {name}" for name in OTHERS)  # how many times as fast as that


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


def layer_table(rows: list[dict], mode: str, step: str, width: int | None = None) -> str:
    """Results first: how many times faster; then medians, and the widest spread of a row."""
    header = ("case", *_AGAINST, *COLUMNS, "spread")
    lines = []
    for row in _select(rows, mode, step):
        against = [_times(_ratio(row, name)) for name in OTHERS]
        times = [milliseconds(row, name) for name in COLUMNS]
        lines.append((str(case_of(row)), *against, *times, f"{spread(row):.0%}"))
    title = f"{mode} {step}: how many times faster, and milliseconds a call"
    return _titled(title, header, lines, width)


def kernel_table(rows: list[dict], width: int | None = None) -> str:
    """Kernels in copies: 1.00 is one read and one write of the tensor."""
    names = [name for name in rows[0]["milliseconds"] if name != "copy"]
    lines = []
    for row in rows:
        times = {name: timing["p50"] for name, timing in row["milliseconds"].items()}
        copies = [f"{times[name] / times['copy']:.2f}" for name in names]
        lines.append((str(case_of(row)), *copies, _three_digits(times["copy"])))
    header = ("case", *(name.removeprefix("Bn3d") for name in names), "copy, ms")
    return _titled("Kernels alone, in copies of the tensor", header, lines, width)


def ratios(rows: Iterable[dict]) -> list[dict]:
    """How many times faster bn3d is: over float32 cases from 2 MB up, and over smaller ones.

    "at_most", where a profile was taken, is the mean for kernels that move each byte once.
    """
    rows = [row for row in rows if row["dtype"] == "float32"]
    found = []
    for mode, step, small, other in product(MODES, STEPS, (False, True), OTHERS):
        chosen = [row for row in _select(rows, mode, step) if case_of(row).is_small is small]
        values = [r for r in (_ratio(row, other) for row in chosen) if r is not None]
        limits = [r for r in (_limit(row, other) for row in chosen) if r is not None]
        if values:
            found.append(
                {
                    "mode": mode,
                    "step": step,
                    "small": small,
                    "against": other,
                    "geometric_mean": _geometric_mean(values),
                    "at_most": _geometric_mean(limits) if limits else None,
                    "least": round(min(values), 3),
                    "cases": len(values),
                }
            )
    return found


def ratio_table(found: list[dict], width: int | None = None) -> str:
    lines = []
    for mode, step, small in product(MODES, STEPS, (False, True)):
        cells = {
            r["against"]: r
            for r in found
            if (r["mode"], r["step"], r["small"]) == (mode, step, small)
        }
        if cells:
            size = "below 2 MB" if small else "2 MB and up"
            lines.append((mode, step, size, *(_mean_and_least(cells.get(n)) for n in OTHERS)))
    header = ("mode", "step", "cases", *_AGAINST)
    of = " of what the memory allows" if any(r["at_most"] for r in found) else ""
    title = f"bn3d is faster by: geometric mean{of} (least), float32"
    return _titled(title, header, lines, width, names=3)


def profile_table(layers: list[dict], width: int | None = None) -> str:
    """Where a bn3d step's time goes: its kernels, what MindSpore adds to call them, and what the
    layer does around the call. Differences of medians: below 0 is noise.
    """
    lines = []
    for row in layers:
        layer, bare, inside = (median(row, name) for name in ("bn3d", "bare", "kernels"))
        if layer is None or bare is None or inside is None:
            continue
        lines.append(
            (
                str(case_of(row)),
                row["mode"],
                row["step"],
                *(f"{value * 1e3:.0f}" for value in (layer, inside, bare - inside, layer - bare)),
                f"{(layer - bare) / layer:.0%}",
                f"{row['milliseconds']['bn3d']['page_faults']:.0f}",
                f"{row['milliseconds']['copy']['p50'] * 1e3:.0f}",
            )
        )
    header = (
        "case",
        "mode",
        "step",
        "layer",
        "kernels",
        "MindSpore",
        "bn3d",
        "of the layer",
        "fresh pages",
        "copy",
    )
    return _titled("Where a step of bn3d goes, microseconds", header, lines, width, names=3)


def spread(row: dict) -> float:
    """The widest 20 %..80 % of the row's times, as a share of their median."""
    return max(
        (timing["p80"] - timing["p20"]) / timing["p50"] for timing in row["milliseconds"].values()
    )


def wide(rows: list[dict]) -> str:
    """Which times spread too far to say much; empty if none do."""
    found = [row for row in rows if spread(row) > SPREAD]
    if not found:
        return ""
    return (
        f"the times of {len(found)} of {len(rows)} rows spread by more than {SPREAD:.0%} of their "
        f"median, the widest by {max(map(spread, found)):.0%}"
    )


def quiet(rows: list[dict]) -> bool:
    """Whether nothing else took the machine meanwhile; not where the system does not say."""
    return all(row["other_load_cores"] <= BUSY for row in rows)


def busy(rows: list[dict]) -> str:
    loads = [row["other_load_cores"] for row in rows]
    cores = "an unknown number of" if any(map(math.isnan, loads)) else f"up to {max(loads)}"
    return f"other work kept {cores} cores busy, {BUSY} are tolerable"


def _titled(
    title: str, header: Sequence[str], lines: list, width: int | None, names: int = 1
) -> str:
    return f"{tables.fold(title, width)}\n\n{tables.table(header, lines, width, names)}\n"


def _select(rows: Iterable[dict], mode: str, step: str) -> list[dict]:
    return [row for row in rows if (row["mode"], row["step"]) == (mode, step)]


def milliseconds(row: dict, name: str) -> str:
    """A contender's median, or that it refused: why is `row["refused"]`."""
    timing = row["milliseconds"].get(name)
    return "refused" if timing is None else _three_digits(timing["p50"])


def _three_digits(value: float) -> str:
    return f"{value:.3f}"[:5].rstrip(".")


def _ratio(row: dict, other: str) -> float | None:
    ours, theirs = median(row, "bn3d"), median(row, other)
    return None if ours is None or theirs is None else theirs / ours


def _limit(row: dict, other: str) -> float | None:
    """The ratio if the kernels moved each byte once, as fast as a copy does."""
    ours, theirs, inside = (median(row, name) for name in ("bn3d", other, "kernels"))
    if ours is None or theirs is None or inside is None:
        return None
    least = min(inside, _LEAST_COPIES[row["step"]] * row["milliseconds"]["copy"]["p50"])
    return theirs / (max(ours - inside, 0) + least)


def _geometric_mean(values: Sequence[float]) -> float:
    return round(float(np.exp(np.mean(np.log(values)))), 3)


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _mean_and_least(cell: dict | None) -> str:
    if cell is None:
        return ""
    at_most = "" if cell["at_most"] is None else f" of {cell['at_most']:.2f}"
    return f"{cell['geometric_mean']:.2f}{at_most} ({cell['least']:.2f})"
