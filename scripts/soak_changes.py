"""Changes a network over and over and watches memory:
`python scripts/soak_changes.py [--rounds 200]`.

Each round swaps, freezes, unfreezes and restores a small network, and after every change compiles
and runs it anew: as a cell in graph mode, as a training step, as a gradient and as a
`mindspore.jit` function. In a process of its own the same number of graphs is compiled of the stock
network alone, released by MindSpore's own `del_net_res`; what that grows by is MindSpore's.

Exit code 1 if over the second half memory grew by more than 150 KiB a compiled graph beyond stock.
"""

from __future__ import annotations

import argparse
import gc
import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

import bn3d

KINDS = ("cell", "step", "gradient", "function")
LAYERS = 4
MAX_EXCESS_KIB = 150  # a graph


def resident_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4


class Block(nn.Cell):
    def __init__(self):
        super().__init__()
        self.bn, self.relu = nn.BatchNorm3d(4), nn.ReLU()

    def construct(self, x):
        return self.relu(self.bn(x)) + x


def runner(kind: str, net: nn.Cell) -> Callable[[], object]:
    """Runs the network in one kind of graph."""
    x = Tensor(np.random.default_rng(0).normal(size=(2, 4, 3, 4, 4)).astype(np.float32))
    if kind == "step":
        optimizer = nn.SGD(net.trainable_params(), 1e-3)
        step = nn.TrainOneStepCell(nn.WithLossCell(net, nn.MSELoss()), optimizer)
        return lambda: step(x, x).asnumpy()
    if kind == "gradient":
        gradient = ms.grad(net)
        return lambda: gradient(x).asnumpy()
    if kind == "function":

        @ms.jit
        def function(x):
            return net(x)

        return lambda: function(x).asnumpy()
    return lambda: net(x).asnumpy()


def release() -> None:
    """What `bn3d.networks.cells.forget_compiled` does, of MindSpore's own alone."""
    api = inspect.getmodule(ms.ms_memory_recycle)
    for phases in [*api.cells_compile_cache.values(), api.ms_compile_cache]:
        for executor in (api._cell_graph_executor, api.JitExecutor_.get_instance()):
            executor.del_net_res(None, set(phases))
        phases.clear()


def grow(kind: str, rounds: int, changed: bool) -> float:
    """KiB by which memory grows with each graph, over the second half of the rounds."""
    ms.set_context(mode=ms.PYNATIVE_MODE if kind == "function" else ms.GRAPH_MODE)
    net = nn.SequentialCell([Block() for _ in range(LAYERS)]).set_train()
    run = runner(kind, net)
    changes = (bn3d.swap, bn3d.freeze, bn3d.unfreeze, bn3d.restore)
    memory = []
    for _ in range(rounds):
        for change in changes:
            if changed:
                change(net)
            else:
                release()
            run()
        gc.collect()
        memory.append(resident_kib())
    half = memory[rounds // 2 :]
    growth, _ = np.polyfit(range(len(half)), half, 1)
    return growth / len(changes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--kind", choices=KINDS, help="this one alone")
    parser.add_argument("--who", choices=["bn3d", "stock"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.who:
        growth = grow(arguments.kind, arguments.rounds, arguments.who == "bn3d")
        print(json.dumps(growth))
        return 0

    failed = False
    for kind in [arguments.kind] if arguments.kind else KINDS:
        growth = {}
        for who in ("bn3d", "stock"):
            command = [sys.executable, __file__, "--rounds", str(arguments.rounds)]
            command += ["--kind", kind, "--who", who]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            growth[who] = json.loads(done.stdout.splitlines()[-1])
        excess = growth["bn3d"] - growth["stock"]
        failed |= excess > MAX_EXCESS_KIB
        print(
            f"{kind}: memory grew by {growth['bn3d']:.0f} KiB a graph with swap, freeze, unfreeze "
            f"and restore, by {growth['stock']:.0f} with stock",
            flush=True,
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
