"""What synchronised statistics cost a training step of the demo's U-Net, on the ranks of msrun.

    OMP_NUM_THREADS=1 msrun --worker_num=2 --local_worker_num=2 --join=True \
        benchmarks/bench_sync.py

Two networks take turns on the same patches, one with `swap(net)`, one with
`swap(net, sync=True)`; all else, the averaged gradients as well, is the same. As many AllReduce
alone, one after the other, show which part of the difference is theirs. Rank 0 prints.
"""

from __future__ import annotations

import itertools
import time
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

WARM_UP = 5  # steps


def main(
    steps: Annotated[int, typer.Option(min=WARM_UP + 1)] = 45,
    batch: Annotated[int, typer.Option(min=1, help="Patches a step and rank.")] = 2,
) -> None:
    """Print the median step of both networks, the difference, and the collectives' own time."""
    said = convolutions.use_fast()
    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    init()
    ms.set_auto_parallel_context(parallel_mode=ms.ParallelMode.DATA_PARALLEL, gradients_mean=True)
    rank, ranks = get_rank(), get_group_size()
    networks = {sync: training_step(sync) for sync in (False, True)}
    layers = sum(
        isinstance(cell, bn3d.SyncBatchNorm3d) for _, cell in networks[True].cells_and_names()
    )

    alone = median_seconds(Collectives(2 * layers), ms.Tensor(np.ones(100, np.float32)))
    seconds: dict[bool, list[float]] = {False: [], True: []}
    patches = volume.patches(volume.load(), PATCH, batch * ranks, 0, rank, ranks)
    for number, (x, y) in enumerate(itertools.islice(patches, steps)):
        for sync in (False, True) if number % 2 else (True, False):
            start = time.perf_counter()
            networks[sync](ms.Tensor(x), ms.Tensor(y)).asnumpy()
            seconds[sync].append(time.perf_counter() - start)
    if rank == 0:
        if said:
            print(said)
        local, synchronised = (1e3 * np.median(seconds[s][WARM_UP:]) for s in (False, True))
        extra = synchronised - local
        print(
            f"{ranks} ranks, {layers} layers, {batch} patches a rank, {steps - WARM_UP} steps\n"
            f"own statistics          {local:7.1f} ms a step\n"
            f"synchronised statistics {synchronised:7.1f} ms a step\n"
            f"difference              {extra:7.1f} ms, {extra / local:.0%}, "
            f"{extra / (2 * layers):.2f} ms a collective\n"
            f"{2 * layers} AllReduce alone      {1e3 * alone:7.1f} ms",
            flush=True,
        )


class Collectives(nn.Cell):
    """AllReduce, `count` times in a row."""

    def __init__(self, count: int):
        super().__init__()
        self.count = count
        self.all_reduce = ops.AllReduce()

    def construct(self, x):
        for _ in range(self.count):
            x = self.all_reduce(x) * 0.5
        return x


def median_seconds(network: nn.Cell, x: ms.Tensor) -> float:
    seconds = []
    for _ in range(WARM_UP + 20):
        start = time.perf_counter()
        network(x).asnumpy()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[WARM_UP:]))


def training_step(sync: bool) -> nn.Cell:
    ms.set_seed(0)
    network = UNet(len(TISSUES))
    bn3d.swap(network, sync=sync)
    optimizer = nn.Momentum(network.trainable_params(), 0.02, momentum=0.9)
    step = nn.TrainOneStepCell(nn.WithLossCell(network, nn.CrossEntropyLoss()), optimizer)
    return step.set_train()


if __name__ == "__main__":
    typer.run(main)
