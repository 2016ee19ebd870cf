"""The measured numbers as a table in the terminal and as report.html."""

from __future__ import annotations

from pathlib import Path

import mindspore as ms
import numpy as np
from jinja2 import Environment, PackageLoader

from bn3d.commands.bench.report import describe_run
from bn3d.commands.bench.session import usable_cores
from bn3d.commands.demo.judging import doubts, verdict
from bn3d.commands.demo.pictures import LABELS, SMOOTHED, curves, slices
from bn3d.commands.demo.training import BATCH, PATCH, WARM_UP, Result
from bn3d.commands.demo.volume import SOURCE, TISSUES, Brain
from bn3d.outputs import write_text
from bn3d.tables import say, table, width_of

__all__ = ["machine", "notes", "rows", "show", "write"]


def rows(result: Result) -> list[tuple[str, ...]]:
    """What was measured, for the stock network, for the swapped one and for the control."""
    runs = (result.stock, result.swapped, result.control)
    last = min(SMOOTHED, result.steps)
    told = "" if result.distinguishable else ", not distinguishable here"
    table = [
        ("step, ms", *(str(result.step(run)) for run in runs)),
        ("norm layers in it, ms", *(str(result.norm_layers(run)) for run in runs)),
        (f"saved a step, ms{told}", "", *(str(result.saved(run)) for run in runs[1:])),
        (f"loss, mean of last {last}", *(f"{np.mean(run.losses[-last:]):.2f}" for run in runs)),
    ]
    scores = [run.dice for run in runs if run.dice]
    if len(scores) == len(runs):
        table += [
            (f"Dice, {tissue}", *(f"{run.dice[tissue]:.2f}" for run in runs)) for tissue in TISSUES
        ]
    table += [
        (
            "largest difference of a loss",
            "",
            *(f"{result.loss_differences(run).max():.0e}" for run in runs[1:]),
        ),
        (
            "largest difference of a weight",
            "",
            *(f"{result.weight_difference(run):.0e}" for run in runs[1:]),
        ),
    ]
    if len(scores) == len(runs):
        same = [100 * np.mean(run.prediction == result.stock.prediction) for run in runs[1:]]
        table.append(("voxels labelled alike", "", *(f"{share:.1f} %" for share in same)))
    return table


def notes(result: Result) -> list[str]:
    """How each number came about."""
    return [
        f"{result.steps} steps of {BATCH} patches of {' x '.join(map(str, PATCH))} voxels, "
        f"{result.replaced} norm layers swapped. All runs start from the same weights and take "
        "the same batches, step by step in an order that rotates. Times are medians (20 %..80 %) "
        f"without the first {WARM_UP} steps.",
        "Control: nn.BatchNorm3d again, every first weight moved to a neighbouring float32. "
        "Training magnifies rounding: the control shows how far one rounding at the start grows; "
        "bn3d rounds otherwise in every step.",
        "Norm layers: a step less the same step of the same network without norm layers, over "
        f"{result.norm_layers(result.swapped).steps} steps. Saved: a step of the nn.BatchNorm3d "
        "run less the same step of the run.",
        "Not distinguishable: 20 %..80 % of what bn3d saves overlap with those of the control, "
        "whose layers are the stock ones.",
        "Dice: on a coronal slab of 40 mm that no training patch touches, from one seed.",
    ]


def machine() -> str:
    """What computed, and when."""
    found = describe_run(usable_cores())
    versions = ", ".join(
        f"{name} {found['versions'][name.lower()]}"
        for name in ("bn3d", "MindSpore", "NumPy", "Python")
    )
    return (
        f"{found['cpu']}, {found['threads']} threads, {versions}, graph mode on "
        f"{ms.get_context('device_target')}, {found['date'][:16].replace('T', ' ')} UTC"
    )


def load(result: Result) -> str:
    return f"Other work on the machine meanwhile: {result.other_load:.1f} cores"


def show(result: Result) -> None:
    say(verdict(result))
    for doubt in doubts(result):
        say(f"Warning: {doubt}")
    print(f"\n{table(('', *LABELS), rows(result), width_of())}\n")
    for line in (*notes(result), machine(), load(result)):
        say(line)


def write(result: Result, brain: Brain, folder: Path) -> Path:
    """report.html in `folder`, one file with its pictures inside; returns its path."""
    template = Environment(
        loader=PackageLoader("bn3d.commands.demo", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("report.html.j2")
    text = template.render(
        verdict=verdict(result),
        doubts=doubts(result),
        slices=slices(result, brain),
        curves=curves(result),
        labels=LABELS,
        rows=rows(result),
        notes=notes(result),
        machine=machine(),
        load=load(result),
        source=SOURCE,
    )
    path = folder / "report.html"
    write_text(path, text)
    return path
