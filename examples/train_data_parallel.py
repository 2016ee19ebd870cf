"""Train the demo's brain segmentation on several devices: sharded data, averaged gradients and
batch statistics over all devices.

    pip install '.[demo]'      # in the repository
    msrun --worker_num=2 --local_worker_num=2 --join=True examples/train_data_parallel.py
    python examples/train_data_parallel.py       # the same training on one device

Both train on the same batches: `--batch` patches a step, which the devices share. The loss
curves are equal up to rounding. `--no-sync` leaves the statistics to each device.
scripts/train_cluster.sh starts it on several nodes.
"""

from __future__ import annotations

import csv
import itertools
import os
import time
from pathlib import Path
from typing import Annotated

import mindspore as ms
import numpy as np
import typer
from mindspore import nn, ops
from mindspore.communication import get_group_size, get_rank, init

import bn3d
from bn3d import convolutions
from bn3d.commands.demo import volume
from bn3d.commands.demo.training import PATCH
from bn3d.commands.demo.unet import UNet
from bn3d.commands.demo.volume import TISSUES
from bn3d.commands.options import Device


def main(
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 30,
    batch: Annotated[int, typer.Option(min=1, help="Patches a step, over all devices.")] = 4,
    sync: Annotated[bool, typer.Option(help="Statistics over all devices.")] = True,
    learning_rate: Annotated[float, typer.Option(min=0)] = 0.02,
    seed: Annotated[int, typer.Option(help="Seed of the weights and of the patches.")] = 0,
    device: Annotated[Device, typer.Option(help="What to train on.")] = Device.CPU,
    curve: Annotated[Path | None, typer.Option(help="CSV file for step, loss, seconds.")] = None,
) -> None:
    """Train a 3-D U-Net on a brain MRI on all devices that msrun has started."""
    said = convolutions.use_fast()  # before MindSpore computes
    ms.set_device(device.value)
    ms.set_context(mode=ms.GRAPH_MODE)
    rank, ranks = connect()
    if said and rank == 0:
        typer.echo(said)
    if batch % ranks:
        raise typer.BadParameter(f"--batch must be a multiple of the {ranks} devices, got {batch}")

    ms.set_seed(seed)  # the same first weights everywhere
    network = UNet(len(TISSUES))
    bn3d.swap(network, sync=sync)
    optimizer = nn.Momentum(network.trainable_params(), learning_rate, momentum=0.9)
    # Averages the gradients over the devices, as the parallel mode of `connect` asks for.
    step = nn.TrainOneStepCell(nn.WithLossCell(network, nn.CrossEntropyLoss()), optimizer)
    step.set_train()

    rows = []
    patches = volume.patches(volume.load(), PATCH, batch, seed, rank, ranks)
    for number, (x, y) in enumerate(itertools.islice(patches, steps), 1):
        start = time.perf_counter()
        loss = step(ms.Tensor(x), ms.Tensor(y))
        total = np.array([float(loss.asnumpy()) / ranks], np.float32)
        seconds = time.perf_counter() - start
        rows.append((number, float(add_up(ms.Tensor(total), ranks)[0]), seconds))
        if rank == 0:
            typer.echo(f"step {number:4}   loss {rows[-1][1]:.6f}   {seconds * 1e3:6.0f} ms")
    if rank == 0 and curve is not None:
        curve.parent.mkdir(parents=True, exist_ok=True)
        with curve.open("w", newline="") as file:
            csv.writer(file).writerows([("step", "loss", "seconds"), *rows])


def connect() -> tuple[int, int]:
    """Rank and number of devices; (0, 1) if this process was not started by msrun."""
    if "MS_WORKER_NUM" not in os.environ:
        return 0, 1
    init()
    ms.set_auto_parallel_context(parallel_mode=ms.ParallelMode.DATA_PARALLEL, gradients_mean=True)
    return get_rank(), get_group_size()


def add_up(vector: ms.Tensor, ranks: int) -> np.ndarray:
    if ranks > 1:
        vector = ops.AllReduce(ops.ReduceOp.SUM)(vector)
    return vector.asnumpy()


if __name__ == "__main__":
    typer.run(main)
