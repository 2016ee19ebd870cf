"""Trains for many steps and watches memory and drift: `python scripts/soak.py [--steps 10000]`.

A small network trains with `bn3d.BatchNorm3d`. Every hundredth step resident memory is read, and
the layer's output and moving statistics are compared with `bn3d.reference`, which follows the
moving statistics in float64 over all steps. Exit code 1 if memory grew by more than 16 MiB over
the second half, or a value is further from the judge's than 1e-4 of its scale.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

import bn3d
from bn3d import reference

SHAPE = (4, 8, 4, 12, 12)
MAX_GROWTH_MIB = 16
MAX_DRIFT = 1e-4


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


class Network(nn.Cell):
    def __init__(self):
        super().__init__()
        self.norm = bn3d.BatchNorm3d(SHAPE[1])
        self.dense = nn.Dense(SHAPE[1], 1)

    def construct(self, x):
        normalized = self.norm(x)
        pooled = ops.mean(ops.relu(normalized), (2, 3, 4))
        return ops.mean(ops.square(self.dense(pooled) - 1)), normalized


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--graph", action="store_true", help="GRAPH_MODE instead of PyNative")
    arguments = parser.parse_args()
    ms.set_context(mode=ms.GRAPH_MODE if arguments.graph else ms.PYNATIVE_MODE)

    net = Network().set_train()
    optimizer = nn.SGD(net.trainable_params(), 0.01)
    gradient = ms.value_and_grad(net, None, optimizer.parameters, has_aux=True)
    rng = np.random.default_rng(0)
    moving_mean, moving_variance = np.zeros(SHAPE[1]), np.ones(SHAPE[1])
    memory, drift, started = {}, 0.0, time.monotonic()
    for step in range(1, arguments.steps + 1):
        # A mean that wanders, so that the moving statistics have to follow.
        x = rng.standard_normal(SHAPE).astype(np.float32) + np.float32(5 * np.sin(step / 500))
        gamma, beta = net.norm.bn2d.gamma.asnumpy(), net.norm.bn2d.beta.asnumpy()
        (_, y), gradients = gradient(Tensor(x))
        optimizer(gradients)
        expected = reference.forward_training(x, gamma, beta, moving_mean, moving_variance)
        moving_mean, moving_variance = expected.moving_mean, expected.moving_variance
        if step % 100 == 0:
            cell = net.norm.bn2d
            pairs = (
                (y, expected.y),
                (cell.moving_mean, moving_mean),
                (cell.moving_variance, moving_variance),
            )
            for got, wanted in pairs:
                error = np.abs(got.asnumpy() - wanted).max() / np.abs(wanted).max()
                drift = max(drift, float(error))
            memory[step] = resident_mib()
        if step % 1000 == 0:
            print(f"step {step}: {memory[step]:.1f} MiB, drift {drift:.1e}", flush=True)
    half = min(step for step in memory if step >= arguments.steps / 2)
    growth = memory[max(memory)] - memory[half]
    print(
        f"{arguments.steps} steps in {time.monotonic() - started:.0f} s: resident memory grew by "
        f"{growth:.1f} MiB over the second half, at most {drift:.1e} from the judge"
    )
    return int(growth > MAX_GROWTH_MIB or not drift <= MAX_DRIFT)


if __name__ == "__main__":
    sys.exit(main())
