#!/usr/bin/env python3
"""Train a 3-D ResNet-18 on made-up video, stock and after `bn3d.swap`, and compare the losses.

examples/train_video.py --device Ascend
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import mindspore as ms
import numpy as np
import typer
from mindspore import nn

import bn3d
from bn3d import convolutions
from bn3d.commands.options import Device, folder

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from architectures import ResNet18

CLASSES = 4


def clips(steps: int, batch: int, size: int):
    """Batches of noise in which a bar moves; the class says in which direction."""
    random = np.random.default_rng(0)
    for _ in range(steps):
        labels = random.integers(0, CLASSES, batch)
        video = random.normal(0, 0.5, (batch, 3, 8, size, size)).astype(np.float32)
        for clip, label in zip(video, labels, strict=True):
            start = random.integers(size)
            for time_step in range(8):
                at = (start + 2 * time_step * (1 if label % 2 else -1)) % size
                if label < 2:
                    clip[:, time_step, at] += 2
                else:
                    clip[:, time_step, :, at] += 2
        yield ms.Tensor(video), ms.Tensor(labels.astype(np.int32))


def to_check():
    """The network and a batch, for `bn3d check train_video:to_check` in this folder."""
    video, _ = next(clips(1, 4, 32))
    return ResNet18(width=16, classes=CLASSES).set_train(), video


def train(swapped: bool, steps: int, batch: int, size: int) -> dict:
    """Losses and seconds of each step; the first compiles."""
    ms.set_seed(0)
    net = ResNet18(width=16, classes=CLASSES)
    if swapped:
        bn3d.swap(net)
    optimizer = nn.Momentum(net.trainable_params(), 0.02, 0.9)
    step = nn.TrainOneStepCell(nn.WithLossCell(net, nn.CrossEntropyLoss()), optimizer)
    step.set_train()
    losses, seconds = [], []
    for video, labels in clips(steps, batch, size):
        start = time.perf_counter()
        losses.append(float(step(video, labels).asnumpy()))
        seconds.append(round(time.perf_counter() - start, 4))
    return {"losses": losses, "seconds": seconds}


def main(
    device: Annotated[Device, typer.Option(help="What to train on.")] = Device.CPU,
    steps: Annotated[int, typer.Option(min=2, help="Of each run.")] = 40,
    batch: Annotated[int, typer.Option(min=1, help="Clips a step.")] = 8,
    size: Annotated[int, typer.Option(min=16, help="Height and width of a clip.")] = 32,
    output: Annotated[
        Path, typer.Option(help="Folder of train_video.json.", callback=folder)
    ] = Path("out"),
) -> None:
    """Train twice from the same weights, on the same clips: stock, and with bn3d."""
    if said := convolutions.use_fast():  # before MindSpore computes
        print(said)
    ms.set_device(device.value)
    ms.set_context(mode=ms.GRAPH_MODE)
    runs = {name: train(name == "bn3d", steps, batch, size) for name in ("stock", "bn3d")}
    for name, run in runs.items():
        first, last = np.mean(run["losses"][:4]), np.mean(run["losses"][-4:])
        median = 1e3 * np.median(run["seconds"][1:])
        print(f"{name:5}  loss {first:.3f} -> {last:.3f}  {median:.1f} ms a step")
    print(
        f"first losses differ by {abs(runs['stock']['losses'][0] - runs['bn3d']['losses'][0]):.1e}"
    )
    report = {"environment": dict(bn3d.info().rows()), "runs": runs}
    (output / "train_video.json").write_text(json.dumps(report, indent=1) + "\n")
    if not np.isfinite([loss for run in runs.values() for loss in run["losses"]]).all():
        sys.exit("a loss is not finite")


if __name__ == "__main__":
    typer.run(main)
