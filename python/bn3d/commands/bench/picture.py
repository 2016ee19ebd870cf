"""Draws a result file: every layer's time in copies of its tensor."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from bn3d.commands.bench.cases import MODES, STEPS, Case
from bn3d.commands.bench.report import case_of
from bn3d.outputs import replacing

__all__ = ["draw"]

_COLOURS = {"bn3d": "#0072b2", "stock": "#d55e00", "torch": "#999999"}


def draw(layers: list[dict], path: Path) -> None:
    """One panel a mode and step; points are medians, whiskers the 20 % and 80 % quantiles."""
    modes = [mode for mode in MODES if any(row["mode"] == mode for row in layers)]
    steps = [step for step in STEPS if any(row["step"] == step for row in layers)]
    cases = list(dict.fromkeys(case_of(row) for row in layers))
    figure, axes = plt.subplots(
        len(modes),
        len(steps),
        figsize=(5 * len(steps), 1.5 + 0.45 * len(cases) * len(modes)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for mode, line in zip(modes, axes, strict=True):
        for step, axis in zip(steps, line, strict=True):
            rows = {
                case_of(row): row["milliseconds"]
                for row in layers
                if (row["mode"], row["step"]) == (mode, step)
            }
            _draw_panel(axis, cases, rows)
            axis.set_title(f"{mode}, {step.replace('_', ' + ')}", fontsize=10)
    axes[0, 0].set_yticks(range(len(cases)), [str(case) for case in cases], fontsize=8)
    axes[0, 0].set_ylim(len(cases) - 0.4, -0.6)  # room around the points, the first case on top
    figure.supxlabel("time of a call, in copies of the tensor (1 = one read + one write)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=4)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:])
    plt.close(figure)


def _draw_panel(axis: Axes, cases: list[Case], rows: dict[Case, dict]) -> None:
    height = 0.8 / len(_COLOURS)
    for i, (name, colour) in enumerate(_COLOURS.items()):
        positions: list[float] = []
        p20: list[float] = []
        p50: list[float] = []
        p80: list[float] = []
        for position, case in enumerate(cases):
            times = rows.get(case, {})
            if name in times:
                copy = times["copy"]["p50"]
                positions.append(position + (i - 1) * height)
                for quantile, values in (("p20", p20), ("p50", p50), ("p80", p80)):
                    values.append(times[name][quantile] / copy)
        whiskers = np.array([np.subtract(p50, p20), np.subtract(p80, p50)])
        # A logarithmic axis has no 0 that a bar could begin at.
        axis.errorbar(p50, positions, xerr=whiskers, fmt="o", label=name, color=colour)
    axis.axvline(1, color="black", linewidth=1, label="copy")
    axis.set_xscale("log")
