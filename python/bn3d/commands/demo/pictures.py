"""The demo's pictures: slices of the held-out slab, and curves that show a difference."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import matplotlib.image
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bn3d.commands.demo.training import Result
from bn3d.commands.demo.volume import Brain

__all__ = ["LABELS", "SMOOTHED", "Picture", "curves", "slices"]

LABELS = ("nn.BatchNorm3d", "bn3d", "control")
COLOURS = ("#8a8f98", "#d1495b", "#3f8fd0")
RED, YELLOW, BLUE = (0.85, 0.33, 0.36), (0.96, 0.82, 0.42), (0.1, 0.7, 1.0)
SMOOTHED = 10  # steps whose mean a curve shows
INK = "#012345"  # stands for the page's own colour of text, light or dark


@dataclass(frozen=True)
class Picture:
    """An image as HTML, its caption, and what it shows in words."""

    html: str
    caption: str
    alt: str


def slices(result: Result, brain: Brain) -> list[Picture]:
    """The middle coronal plane of the held-out slab; tissue colours over the T1 image.

    Empty if a run was stopped before it segmented the slab.
    """
    runs = (result.stock, result.swapped, result.control)
    predictions = [run.prediction for run in runs if run.prediction is not None]
    if len(predictions) < len(runs):
        return []
    t1, labels = brain.slab()
    middle = t1.shape[1] // 2
    rows = np.flatnonzero(labels[:, middle].any(axis=0))
    plane = np.s_[:, middle, max(rows[0] - 4, 0) : rows[-1] + 5]
    truth, stock, swapped, control = (each[plane].T for each in (labels, *predictions))
    grey = ((t1[plane] - t1.min()) / (t1.max() - t1.min())).T

    def tissues(found: np.ndarray) -> dict:
        return {RED: found == 1, YELLOW: found == 2}

    def share(found: np.ndarray) -> str:
        return f"{100 * np.mean(found != stock):.1f} % of the slice"

    shown = [
        ("T1, never trained on", {}, "the T1 image of the held-out slice"),
        ("truth", tissues(truth), "grey and white matter of the template"),
        (LABELS[0], tissues(stock), "grey and white matter found with nn.BatchNorm3d"),
        (LABELS[1], tissues(swapped), "grey and white matter found with bn3d"),
        (
            f"{LABELS[1]} differs: {share(swapped)}",
            {BLUE: swapped != stock},
            "voxels that bn3d and nn.BatchNorm3d label differently",
        ),
        (
            f"control differs: {share(control)}",
            {BLUE: control != stock},
            "voxels that the control and nn.BatchNorm3d label differently",
        ),
    ]
    return [Picture(_slice(grey, colours, alt), name, alt) for name, colours, alt in shown]


def _slice(grey: np.ndarray, colours: dict, alt: str) -> str:
    image = np.repeat(grey[..., None], 3, axis=-1)
    for colour, where in colours.items():
        image[where] = 0.45 * image[where] + 0.55 * np.array(colour)
    buffer = io.BytesIO()
    mpl.image.imsave(buffer, np.clip(image[::-1], 0, 1), format="png")
    height, width = grey.shape
    return (
        f'<img width="{width}" height="{height}" alt="{alt}" '
        f'src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
    )


def curves(result: Result) -> list[Picture]:
    runs = (result.stock, result.swapped, result.control)
    steps = np.arange(1, result.steps + 1)

    figure, axes = _figure("ms a step")
    for place, (run, colour) in enumerate(zip(runs, COLOURS, strict=True)):
        cost = result.norm_layers(run)
        if cost.steps:
            axes.plot([cost.p20, cost.p80], [place, place], color=colour, linewidth=5, alpha=0.5)
            axes.plot(cost.p50, place, "o", color=colour, markersize=9)
    axes.set_yticks(range(len(LABELS)), LABELS)
    axes.set_ylim(len(LABELS) - 0.4, -0.6)
    axes.set_xlim(left=min(0, axes.get_xlim()[0]))
    what = "what the norm layers take"
    if not result.distinguishable:
        what += ": not distinguishable here"
    cost_picture = _picture(
        figure,
        f"Of a step, {what}. Point: median; bar: 20 % to 80 % of the steps, each less the same "
        "step of the network without norm layers.",
        f"milliseconds of a training step that the norm layers take in the three runs; {what}",
    )

    figure, axes = _figure("step")
    for run, label, colour, width in zip(runs, LABELS, COLOURS, (5, 2.5, 1), strict=True):
        axes.plot(steps, _smooth(run.losses), label=label, color=colour, linewidth=width)
    axes.set_ylabel("cross entropy")
    axes.legend(frameon=False, labelcolor=INK)
    losses = _picture(
        figure,
        f"Loss of the three runs, mean of up to {SMOOTHED} steps; where they are alike, the "
        "thinner lines lie on the thicker.",
        "loss of the three runs over the steps",
    )

    figure, axes = _figure("step")
    for run, label, colour in zip(runs[1:], LABELS[1:], COLOURS[1:], strict=True):
        difference = _smooth(result.loss_differences(run))
        apart = difference > 0  # equal losses have no logarithm
        axes.plot(steps[apart], difference[apart], label=label, color=colour, linewidth=1.5)
    axes.set_yscale("log")
    axes.set_ylabel("difference of the loss")
    axes.legend(frameon=False, labelcolor=INK)
    drift = _picture(
        figure,
        f"How far the loss is from that with nn.BatchNorm3d, mean of up to {SMOOTHED} steps. The "
        "control, which begins one rounding off, shows what training makes of rounding alone.",
        "difference of the loss from the nn.BatchNorm3d run, for bn3d and for the control",
    )
    return [cost_picture, drift, losses]


def _smooth(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Mean of the last `SMOOTHED` values, of fewer at the beginning."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - SMOOTHED, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _figure(xlabel: str) -> tuple[Figure, Axes]:
    """As narrow as a phone, so that its text is readable there."""
    figure = Figure(figsize=(4.2, 2.7), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(xlabel)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(which="both", colors=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    return figure, axes


def _picture(figure: Figure, caption: str, alt: str) -> Picture:
    """As SVG inside of the page: its text is the page's, in colour, too."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "font.size": 10}):
        figure.savefig(buffer, format="svg", transparent=True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return Picture(svg.replace("<svg", f'<svg role="img" aria-label="{alt}"', 1), caption, alt)
