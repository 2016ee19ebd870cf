"""Worker: compute the cases of `cases.py` on this rank and save what comes out.

worker.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import mindspore as ms
import numpy as np
from cases import (
    CASES,
    CHANNELS,
    EPS,
    GROUPS,
    LEARNING_RATE,
    MOMENTUM,
    SECOND_ORDER,
    STEPS,
    Case,
    directions,
)
from mindspore import nn, ops
from mindspore.communication import get_group_size, get_rank, init

import bn3d


class Weighted(nn.Cell):
    """sum(layer(x) * dy), whose gradient towards the layer's output is dy; and the output."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def construct(self, x, dy):
        y = self.layer(x)
        return ops.reduce_sum(ops.cast(y * dy, ms.float32)), y


class Branches(nn.Cell):
    """Layers that no data dependency orders: their collectives must not be mixed up."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.BatchNorm3d(CHANNELS), nn.BatchNorm3d(CHANNELS)

    def construct(self, x):
        return self.left(x) + self.right(ops.square(x))


def train(case: Case, rank: int, size: int) -> dict[str, np.ndarray]:
    """Some steps; each updates gamma and beta with the gradients averaged over the ranks."""
    layer = bn3d.SyncBatchNorm3d(CHANNELS, eps=EPS, momentum=MOMENTUM).set_train()
    average = ops.AllReduce(ops.ReduceOp.SUM)
    parameters = layer.trainable_params()
    gradient = ms.value_and_grad(Weighted(layer).set_train(), 0, parameters, has_aux=True)
    saved = {}
    for step in range(STEPS):
        x, dy = (ms.Tensor(case.shard(whole, rank)) for whole in case.step(step))
        (_, y), (dx, gradients) = gradient(x, dy)
        saved |= {f"y{step}": y.asnumpy(), f"dx{step}": dx.asnumpy()}
        for parameter, local in zip(parameters, gradients, strict=True):
            ops.assign(parameter, parameter - LEARNING_RATE * average(local) / size)
    for parameter in layer.get_parameters():
        saved[parameter.name.rsplit(".", 1)[1]] = parameter.asnumpy().copy()
    layer.set_train(False)
    saved["inference"] = layer(x).asnumpy()
    return saved


def branches(case: Case, rank: int) -> dict[str, np.ndarray]:
    net = Branches().set_train()
    bn3d.swap(net, sync=True)
    x, dy = (ms.Tensor(case.shard(whole, rank)) for whole in case.step(0))
    (_, y), dx = ms.value_and_grad(Weighted(net).set_train(), 0, has_aux=True)(x, dy)
    return {"y": y.asnumpy(), "dx": dx.asnumpy()}


def second_order(case: Case, rank: int) -> dict[str, np.ndarray]:
    """Gradients of sum(dx * u) + sum(dgamma * v), the ranks' parts added up, by x and dy."""
    weighted = Weighted(bn3d.SyncBatchNorm3d(CHANNELS, eps=EPS).set_train()).set_train()
    parameters = weighted.layer.trainable_params()
    gradient = ms.grad(weighted, 0, parameters, has_aux=True)
    x, dy = (ms.Tensor(case.shard(whole, rank)) for whole in case.step(0))
    u, v = directions(case)
    u, v = ms.Tensor(case.shard(u, rank)), ms.Tensor(v)

    def of_gradient(x, dy):
        (dx, (dgamma, _)), _ = gradient(x, dy)
        return (dx * u).sum() + (dgamma * v).sum()

    d_x, d_dy = ms.grad(of_gradient, (0, 1))(x, dy)
    return {"d_x": d_x.asnumpy(), "d_dy": d_dy.asnumpy()}


def grouped(case: Case, rank: int, groups: list[list[int]]) -> dict[str, np.ndarray]:
    layer = bn3d.SyncBatchNorm3d(CHANNELS, eps=EPS, process_groups=groups).set_train()
    return {"y": layer(ms.Tensor(case.shard(case.step(0)[0], rank))).asnumpy()}


def cross_checked(case: Case, rank: int) -> dict[str, np.ndarray]:
    """Errors of a layer and of one that forgets the other devices."""
    x = ms.Tensor(case.shard(case.step(0)[0], rank))
    right = bn3d.SyncBatchNorm3d(CHANNELS, eps=EPS).set_train()
    wrong = bn3d.SyncBatchNorm3d(CHANNELS, eps=EPS).set_train()
    alone = bn3d.BatchNorm3d(CHANNELS, eps=EPS)
    wrong._bn3d_forward_training, wrong._bn3d_settings = (
        alone._bn3d_forward_training,
        alone._bn3d_settings,
    )
    reports = [bn3d.cross_check(layer, x) for layer in (right, wrong)]
    for report in reports:
        print(report, flush=True)
    return {
        "ok": np.array([report.ok for report in reports]),
        "compared": np.array(sorted(q.name for q in reports[0].layers[0].quantities)),
    }


def refusal(groups: list) -> str:
    try:
        bn3d.SyncBatchNorm3d(CHANNELS, process_groups=groups)
    except ValueError as error:
        return str(error)
    return "none"


def main(folder: Path) -> None:
    ms.set_device("CPU")
    init()
    rank, size = get_rank(), get_group_size()

    def save(name: str, results: dict[str, np.ndarray]) -> None:
        np.savez(folder / f"{name}-{rank}.npz", **results)
        print("saved", name, flush=True)

    for mode, mode_name in ((ms.PYNATIVE_MODE, "pynative"), (ms.GRAPH_MODE, "graph")):
        ms.set_context(mode=mode)
        for case in CASES[size]:
            save(f"{case.name}-{mode_name}", train(case, rank, size))
        save(f"branches-{mode_name}", branches(CASES[size][0], rank))
    ms.set_context(mode=ms.PYNATIVE_MODE)
    if size == 2:
        save("second order", second_order(SECOND_ORDER, rank))
        save("cross-checked", cross_checked(SECOND_ORDER, rank))
    else:
        for number, groups in enumerate(GROUPS):
            save(f"groups {number}", grouped(CASES[size][0], rank, groups))
        save("refusal", {"text": np.array(refusal([[0, size]]))})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
