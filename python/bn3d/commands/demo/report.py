"""The measured numbers as a table in the terminal and as report.html."""

from __future__ import annotations

import base64
import html
import io
import platform
from pathlib import Path

import mindspore as ms
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

import bn3d
from bn3d.commands.demo.training import BATCH, PATCH, WARM_UP, Result
from bn3d.commands.demo.volume import TISSUES, Brain
from bn3d.outputs import write_text

LABELS = ("nn.BatchNorm3d", "bn3d.BatchNorm3d", "control")
COLOURS = ("#8a8f98", "#d1495b", "#30638e")
RED, YELLOW, BLUE = (0.85, 0.33, 0.36), (0.96, 0.82, 0.42), (0.1, 0.7, 1.0)
SMOOTHED = 10  # last steps whose mean loss the table shows


def rows(result: Result) -> list[tuple[str, ...]]:
    """What was measured, for the stock network, for the swapped one and for the control."""
    runs = (result.stock, result.swapped, result.control)
    times = [run.median_seconds() * 1e3 for run in runs]
    norms = [result.norm_seconds(run) * 1e3 for run in runs]
    last = min(SMOOTHED, result.steps)
    table = [
        ("step, median", *(_number(time, "ms") for time in times)),
        ("BatchNorm in it", *(_number(norm, "ms") for norm in norms)),
        (
            "BatchNorm's share",
            *(_number(100 * norm / time, "%") for norm, time in zip(norms, times, strict=True)),
        ),
        ("loss, first step", *(f"{run.losses[0]:.6f}" for run in runs)),
        (f"loss, mean of last {last}", *(f"{np.mean(run.losses[-last:]):.4f}" for run in runs)),
    ]
    if all(run.dice for run in runs):
        table += [
            (f"Dice, {tissue}", *(f"{run.dice[tissue]:.4f}" for run in runs)) for tissue in TISSUES
        ]
    table += [
        (
            "loss, largest difference",
            "",
            *(f"{result.loss_differences(run).max():.1e}" for run in runs[1:]),
        ),
        (
            "weights, largest difference",
            "",
            *(f"{result.weight_difference(run):.1e}" for run in runs[1:]),
        ),
    ]
    if all(run.dice for run in runs):
        same = [100 * np.mean(run.prediction == result.stock.prediction) for run in runs[1:]]
        table.append(("voxels labelled alike", "", *(f"{share:.2f} %" for share in same)))
    return table


def _number(value: float, unit: str) -> str:
    return f"{value:.0f} {unit}" if np.isfinite(value) else "not measured"


def notes(result: Result) -> list[str]:
    """How each number came about."""
    lines = [
        f"{result.steps} steps of {BATCH} patches of {' x '.join(map(str, PATCH))} voxels, "
        f"{result.replaced} norm layers swapped; all runs from the same weights on the same "
        f"batches, step by step in turn; medians without the first {WARM_UP} steps.",
        "Control: nn.BatchNorm3d again, every first weight moved to a neighbouring float32. The "
        "differences are from the nn.BatchNorm3d run. Training magnifies rounding: the control "
        "shows how far one rounding at the start grows; bn3d rounds otherwise in every step.",
        f"BatchNorm: the step less the same step of the same network without norm layers; "
        f"median over {np.isfinite(result.baseline.seconds[WARM_UP:]).sum()} steps.",
        "Dice: on a coronal slab of 40 mm that no training patch touches.",
        f"MindSpore {ms.__version__}, graph mode, {ms.get_context('device_target')}, bn3d "
        f"{bn3d.__version__}, NumPy {np.__version__}, Python {platform.python_version()}, "
        f"{platform.machine()}.",
    ]
    if result.stopped:
        lines.insert(0, "Stopped by Ctrl-C: this is what was measured until then.")
    return lines


def show(result: Result) -> None:
    console = Console()
    table = Table("", *LABELS, title="The same U-Net, two norm layers")
    for row in rows(result):
        table.add_row(*row)
    console.print(table)
    for line in notes(result):
        console.print(line, style="dim")


def write(result: Result, brain: Brain, folder: Path) -> Path:
    """report.html in `folder`, one file with its pictures inside; returns its path."""
    figures = [curves(result)]
    if result.stock.dice and result.swapped.dice:
        figures.append(overlay(result, brain))
    cells = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows(result)
    )
    pictures = "\n".join(f'<img src="data:image/png;base64,{_png(each)}">' for each in figures)
    text = PAGE.format(
        header="".join(f"<th>{label}</th>" for label in ("", *LABELS)),
        rows=cells,
        pictures=pictures,
        notes="\n".join(f"<li>{html.escape(line)}</li>" for line in notes(result)),
    )
    path = folder / "report.html"
    write_text(path, text)
    return path


def curves(result: Result) -> Figure:
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    losses, drift, times = figure.subplots(1, 3)
    runs = (result.stock, result.swapped)  # the control is drawn where it is the scale
    steps = np.arange(1, result.steps + 1)

    for run, label, colour, style in zip(runs, LABELS, COLOURS, ("-", (0, (4, 4))), strict=False):
        losses.plot(steps, run.losses, linestyle=style, linewidth=1, label=label, color=colour)
    losses.set(title="Loss", xlabel="step", ylabel="cross entropy")
    losses.set_ylim(top=1.3 * max(result.stock.losses + result.swapped.losses))
    losses.legend()

    drift.set_yscale("log")
    for run, label, colour in zip(
        (result.control, result.swapped), LABELS[:0:-1], COLOURS[:0:-1], strict=True
    ):
        difference = result.loss_differences(run)
        apart = difference > 0  # equal losses have no logarithm
        drift.plot(steps[apart], difference[apart], ".-", linewidth=0.6, color=colour, label=label)
    drift.set(title="Loss, difference from nn.BatchNorm3d", xlabel="step", ylabel="absolute")
    drift.legend()

    norms = [result.norm_seconds(run) * 1e3 for run in runs]
    rest = [run.median_seconds() * 1e3 - norm for run, norm in zip(runs, norms, strict=True)]
    times.bar(LABELS[:2], rest, color="#d9dce1")
    bars = times.bar(LABELS[:2], norms, bottom=rest, color=COLOURS[:2])
    times.bar_label(bars, [f"BatchNorm {_number(norm, 'ms')}" for norm in norms], padding=2)
    times.margins(y=0.15)
    times.set(title="Median training step", ylabel="ms")
    return figure


def overlay(result: Result, brain: Brain) -> Figure:
    """The middle coronal plane of the held-out slab; tissue colours over the T1 image."""
    t1, labels = brain.slab()
    middle = t1.shape[1] // 2
    rows = np.flatnonzero(labels[:, middle].any(axis=0))
    plane = np.s_[:, middle, max(rows[0] - 4, 0) : rows[-1] + 5]
    truth, stock, swapped = (
        each[plane].T for each in (labels, result.stock.prediction, result.swapped.prediction)
    )
    grey = ((t1[plane] - t1.min()) / (t1.max() - t1.min())).T
    panels = [
        ("T1, held out", {}),
        ("truth", {RED: truth == 1, YELLOW: truth == 2}),
        (LABELS[0], {RED: stock == 1, YELLOW: stock == 2}),
        (LABELS[1], {RED: swapped == 1, YELLOW: swapped == 2}),
        ("where the two differ", {BLUE: stock != swapped}),
    ]
    figure = Figure(figsize=(15, 3.1), layout="constrained", facecolor="black")
    for axes, (title, colours) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        image = np.repeat(grey[..., None], 3, axis=-1)
        for colour, where in colours.items():
            image[where] = 0.45 * image[where] + 0.55 * np.array(colour)
        axes.imshow(image, origin="lower")
        axes.set_title(title, color="white")
        axes.set(xticks=[], yticks=[])
    return figure


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return base64.b64encode(buffer.getvalue()).decode()


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>bn3d: brain segmentation</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em }}
img {{ width: 100%; margin: 1em 0 }}
table {{ border-collapse: collapse }}
td, th {{ padding: .25em 1em; border-bottom: 1px solid #ddd; text-align: right }}
td:first-child {{ text-align: left }}
</style>
<h1>The same U-Net, two norm layers</h1>
<p>Grey matter (red) and white matter (yellow) of the ICBM152 brain.</p>
<table><tr>{header}</tr>
{rows}
</table>
{pictures}
<ul>
{notes}
</ul>
</html>
"""
