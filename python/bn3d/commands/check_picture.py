"""Draws what `bn3d check` found: the error of every layer, a network beside the same with bn3d."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg

from bn3d import outputs
from bn3d.networks.check_report import CrossCheck

__all__ = ["check_name", "draw"]

_MARKERS = ("o", "s")
_COLOURS = ("#d55e00", "#0072b2")
# What is right to the last bit, and what is not finite, has no place on a logarithmic axis.
_LEAST, _MOST = 1e-6, 1e6


def check_name(path: Path) -> None:
    """Check before the work that matplotlib can draw what the name ends in.

    Raises:
        ValueError: it cannot.
    """
    known = FigureCanvasAgg.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in known:
        raise ValueError(f"--picture must end in .{', .'.join(sorted(known))}, got {path}")


def draw(checks: dict[str, CrossCheck], path: Path) -> None:
    """A point for each layer, in tolerances: right of the line it is wrong."""
    first = next(iter(checks.values()))
    names = [layer.name or "the layer" for layer in first.layers]
    figure, axis = plt.subplots(figsize=(8, 1.5 + 0.28 * len(names)), layout="constrained")
    for (label, found), marker, colour in zip(checks.items(), _MARKERS, _COLOURS, strict=False):
        errors = {layer.name or "the layer": layer.error for layer in found.layers}
        points = [min(max(errors[name], _LEAST), _MOST) for name in names]
        axis.plot(points, range(len(names)), marker, color=colour, label=label)
    axis.axvline(1, color="black", linewidth=1, label="the largest error that is right")
    axis.set_xscale("log")
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)
    axis.set_xlabel("largest error of the layer, in tolerances")
    axis.set_title("batch norm layers against NumPy in float64", fontsize=10)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    with outputs.replacing(path, path.suffix) as temporary:
        figure.savefig(temporary)
    plt.close(figure)
