#!/usr/bin/env python3
"""Draws the picture of README: one slice of a brain, normalised by two layers in float32.

    .venv/bin/python scripts/picture.py            # needs the extra `demo`; writes docs/images/

The volume is the ICBM152 template that comes with nilearn, moved and scaled to a standard deviation
of 1 about a mean of 1000. Its mean is all that is made up: the layer has to subtract it again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import mindspore as ms
import numpy as np
from matplotlib import pyplot as plt
from mindspore import nn
from nilearn import datasets

import bn3d
from bn3d import reference

MEAN = 1000
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "brain.png"


def volume() -> np.ndarray:
    """The brain and the air around it, (1, 1, 197, 233, 189) float32."""
    image = datasets.load_mni152_template(resolution=1)
    voxels = np.asarray(image.dataobj, np.float64)
    return ((voxels - voxels.mean()) / voxels.std() + MEAN).astype(np.float32)[None, None]


def normalised(x: np.ndarray) -> dict[str, np.ndarray]:
    """What each layer makes of x while training, and the formula in float64."""
    vectors = np.ones(1), np.zeros(1), np.zeros(1), np.ones(1)  # gamma, beta, the moving statistics
    layers = {"nn.BatchNorm3d": nn.BatchNorm3d(1), "bn3d.BatchNorm3d": bn3d.BatchNorm3d(1)}
    return {
        "float64": reference.forward_training(x, *vectors).y,
        **{name: layer.set_train()(ms.Tensor(x)).asnumpy() for name, layer in layers.items()},
    }


def draw(x: np.ndarray, path: Path) -> None:
    results = normalised(x)
    truth = results.pop("float64")
    brain = np.argwhere(truth > truth.min() + 0.1)
    cut = [
        slice(max(low - 5, 0), high + 6)
        for low, high in zip(brain.min(0), brain.max(0), strict=True)
    ]

    figure, axes = plt.subplots(2, 3, figsize=(9, 5.6), layout="constrained")
    for axis in axes.flat:
        axis.set_axis_off()

    def show(axis, values, title, **options):
        coronal = values[0, 0, cut[2], values.shape[3] // 2, cut[4]]
        axis.set_title(title, fontsize=15)
        return axis.imshow(coronal.T, origin="lower", interpolation="none", **options)

    grey = {"cmap": "gray", "vmin": truth.min(), "vmax": truth.max()}
    differences = {name: np.abs(y - truth) for name, y in results.items()}
    heat = {"cmap": "magma", "vmin": 0, "vmax": max(each.max() for each in differences.values())}
    show(axes[0, 0], truth, "float64", **grey)
    for column, (name, y) in enumerate(results.items(), 1):
        show(axes[0, column], y, name, **grey)
        worst = f"off by up to {differences[name].max():.2g}"
        image = show(axes[1, column], differences[name], worst, **heat)
    said = f"x: mean {MEAN},\nstandard deviation 1"
    axes[1, 0].text(0.5, 0.75, said, ha="center", fontsize=15, transform=axes[1, 0].transAxes)
    scale = axes[1, 0].inset_axes((0.1, 0.35, 0.8, 0.06))
    figure.colorbar(image, cax=scale, orientation="horizontal")
    scale.set_xlabel("difference to float64", fontsize=13)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=PICTURE, help="the file to write")
    draw(volume(), parser.parse_args().output)
