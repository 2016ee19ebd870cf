"""Trains for many steps and watches memory and drift: `python scripts/soak.py [--steps 10000]`.

A small network trains with `bn3d.BatchNorm3d`, and in a process of its own with
`mindspore.nn.BatchNorm3d`, whose growth of memory is MindSpore's. Every hundredth step resident
memory is read, and the layer's output and moving statistics are compared with `bn3d.reference`,
which follows the moving statistics in float64 over all steps.

Exit code 1 if over the second half memory grew by more than 1 KiB a step beyond what it grew by
with the stock layer, or a value of bn3d's is further from the judge's than 1e-4 of its scale.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

import bn3d
from bn3d import reference

LAYERS = {"bn3d": bn3d.BatchNorm3d, "stock": nn.BatchNorm3d}
SHAPE = (4, 8, 4, 12, 12)
MAX_GROWTH_KIB = 1  # a step, beyond stock's
MAX_DRIFT = 1e-4


def resident_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4


class Network(nn.Cell):
    def __init__(self, layer: str):
        super().__init__()
        self.norm = LAYERS[layer](SHAPE[1])
        self.dense = nn.Dense(SHAPE[1], 1)

    def construct(self, x):
        normalized = self.norm(x)
        pooled = ops.mean(ops.relu(normalized), (2, 3, 4))
        return ops.mean(ops.square(self.dense(pooled) - 1)), normalized


class _Judge:
    """Follows a layer in float64."""

    def __init__(self, cell: nn.Cell):
        self.cell = cell
        self.moving = np.zeros(SHAPE[1]), np.ones(SHAPE[1])

    def step(self, x: np.ndarray):
        """What the layer, with its parameters before the step, is to make of x."""
        gamma, beta = self.cell.gamma.asnumpy(), self.cell.beta.asnumpy()
        expected = reference.forward_training(x, gamma, beta, *self.moving)
        self.moving = expected.moving_mean, expected.moving_variance
        return expected

    def distance(self, y: Tensor, expected) -> float:
        """Largest error of the layer's values after the step, relative to their scale."""
        got = (y, self.cell.moving_mean, self.cell.moving_variance)
        wanted = (expected.y, *self.moving)
        return max(
            float(np.abs(g.asnumpy() - w).max() / np.abs(w).max())
            for g, w in zip(got, wanted, strict=True)
        )


def train(layer: str, steps: int) -> dict:
    """Growth in KiB a step over the second half, and the largest distance from the judge."""
    net = Network(layer).set_train()
    optimizer = nn.SGD(net.trainable_params(), 0.01)
    gradient = ms.value_and_grad(net, None, optimizer.parameters, has_aux=True)
    judge = _Judge(net.norm.bn2d)
    rng = np.random.default_rng(0)
    memory, drift, started = {}, 0.0, time.monotonic()
    for step in range(1, steps + 1):
        # A mean that wanders, so that the moving statistics have to follow.
        x = rng.standard_normal(SHAPE).astype(np.float32) + np.float32(5 * np.sin(step / 500))
        expected = judge.step(x)
        (_, y), gradients = gradient(Tensor(x))
        optimizer(gradients)
        if step % 100 == 0:
            drift = max(drift, judge.distance(y, expected))
            memory[step] = resident_kib()
        if step % 1000 == 0:
            text = f"{layer} step {step}: {memory[step] / 1024:.1f} MiB, drift {drift:.1e}"
            print(text, file=sys.stderr, flush=True)
    half = [step for step in memory if step >= steps / 2]
    growth, _ = np.polyfit(half, [memory[step] for step in half], 1)
    return {"growth": growth, "drift": drift, "seconds": time.monotonic() - started}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--graph", action="store_true", help="GRAPH_MODE instead of PyNative")
    parser.add_argument("--layer", choices=LAYERS, help="this one alone; prints JSON")
    arguments = parser.parse_args()
    if arguments.layer:
        ms.set_context(mode=ms.GRAPH_MODE if arguments.graph else ms.PYNATIVE_MODE)
        print(json.dumps(train(arguments.layer, arguments.steps)))
        return 0

    results = {}
    for layer in ("bn3d", "stock"):
        command = [sys.executable, __file__, *sys.argv[1:], "--layer", layer]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        result = results[layer] = json.loads(done.stdout)
        print(
            f"{layer}: {arguments.steps} steps in {result['seconds']:.0f} s; over the second half "
            f"memory grew by {result['growth']:.2f} KiB a step; "
            f"at most {result['drift']:.1e} from the judge"
        )
    excess = results["bn3d"]["growth"] - results["stock"]["growth"]
    return int(excess > MAX_GROWTH_KIB or not results["bn3d"]["drift"] <= MAX_DRIFT)


if __name__ == "__main__":
    sys.exit(main())
