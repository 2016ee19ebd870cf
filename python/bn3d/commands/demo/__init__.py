"""One U-Net on a real brain, trained twice: with nn.BatchNorm3d and with bn3d swapped in.

volume.py    the ICBM152 brain, its labels, training patches and the held-out slab
unet.py      the network, written with mindspore.nn only
training.py  both runs side by side on the same batches; Dice on the held-out slab
judging.py   what may be said of the result, and what not
pictures.py  slices of the brain, and curves
report.py    the table in the terminal and report.html, of report.html.j2
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bn3d import convolutions, outputs
from bn3d.commands.options import folder
from bn3d.tables import say, say_error

EXTRA = ("jinja2", "matplotlib", "nibabel", "nilearn")
QUICK_STEPS = 8


def main(
    steps: Annotated[int, typer.Option(min=1, help="Training steps of each run.")] = 180,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of report.html.", callback=folder)
    ] = Path("build/demo"),
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Seed of the weights and of the patches.")
    ] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help=f"{QUICK_STEPS} steps: does it run? Gives no verdict.")
    ] = False,
) -> None:
    """Train a 3-D U-Net on a brain MRI with nn.BatchNorm3d and with bn3d, and compare."""
    if said := convolutions.use_fast():
        say(said)
    from bn3d import backends  # noqa: PLC0415, it loads MindSpore

    try:
        backends.choose()
    except (RuntimeError, ValueError) as error:
        say_error(str(error))
        raise typer.Exit(2) from None
    try:
        from bn3d.commands.demo import report, training, volume  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.split(".")[0] not in EXTRA:
            raise
        say_error(
            f"demo needs {missing.name}: "
            f"{sys.executable} -m pip install jinja2 matplotlib nibabel nilearn 'pandas<3'"
        )
        raise typer.Exit(2) from missing

    brain = volume.load()
    result = training.race(brain, QUICK_STEPS if quick else steps, seed)
    result.quick = quick
    if not result.steps:
        say_error("stopped before the first step: nothing was measured.")
        raise typer.Exit(130)
    report.show(result)
    outputs.say_written(report.write(result, brain, output))
    if result.stopped:
        raise typer.Exit(130)
