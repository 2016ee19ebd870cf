"""A training step of whole networks: stock MindSpore against `bn3d.swap(network)`.

python benchmarks/bench_networks.py [--quick]
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bn3d.commands.bench.cases import MODES
from bn3d.commands.bench.report import describe_run, median, quantiles
from bn3d.commands.bench.session import measuring_process, usable_cores
from bn3d.commands.bench.timing import Effort, other_load, take_turns
from bn3d.outputs import write_text


@dataclass(frozen=True)
class Network:
    """A class of networks.py and the shape of its input."""

    name: str
    shape: tuple[int, int, int, int, int]


NETWORKS = (Network("ResNet18", (2, 3, 16, 56, 56)), Network("UNet", (1, 1, 32, 48, 48)))
QUICK_NETWORKS = (Network("ResNet18", (1, 3, 8, 16, 16)), Network("UNet", (1, 1, 8, 8, 8)))


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Tiny inputs: a smoke run.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: usable cores.")] = None,
    blocks: Annotated[int, typer.Option(min=1, help="Turns for each network.")] = 4,
    output: Annotated[Path, typer.Option(help="Folder of networks.json.")] = Path("out"),
):
    """Time training steps of a 3-D ResNet-18 and a 3-D U-Net, stock and swapped."""
    threads = threads or usable_cores()
    effort = Effort(1 if quick else blocks, block_seconds=0.0)  # the least calls a block: 3
    rows = []
    for mode in MODES:
        with measuring_process(mode, threads) as run:
            for network in QUICK_NETWORKS if quick else NETWORKS:
                rows.append({"mode": mode, **run(measure, network, effort)})
    Console().print(_table(rows))
    output.mkdir(parents=True, exist_ok=True)
    result = {**describe_run(threads), "networks": rows}
    write_text(output / "networks.json", json.dumps(result, indent=1) + "\n")


def measure(network: Network, effort: Effort) -> dict:
    """One row: milliseconds of a training step, stock and swapped."""
    import bn3d  # noqa: PLC0415 - only the measuring process imports MindSpore

    swapped = []
    steps = {
        "stock": training_step(network, lambda net: None),
        "bn3d": training_step(network, lambda net: swapped.extend(bn3d.swap(net).changed)),
    }
    load = other_load()
    timings = take_turns(steps, effort)
    return {
        "network": network.name,
        "shape": network.shape,
        "swapped_layers": len(swapped),
        "other_load_cores": round(load(), 2),
        "milliseconds": {name: timing.as_json() for name, timing in timings.items()},
    }


def training_step(network: Network, change: Callable) -> Callable[[], object]:
    """Forward, mean square of the output as the loss, backward, momentum update."""
    import mindspore as ms  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415
    from mindspore import nn  # noqa: PLC0415

    import networks  # noqa: PLC0415
    from bn3d.commands.bench.mindspore_steps import wait_for  # noqa: PLC0415

    ms.set_seed(0)
    net = getattr(networks, network.name)()
    change(net)
    trained = nn.TrainOneStepCell(
        networks.MeanSquare(net), nn.Momentum(net.trainable_params(), 1e-3, 0.9)
    ).set_train()
    x = ms.Tensor(np.random.default_rng(0).standard_normal(network.shape, dtype=np.float32))
    return lambda: wait_for(trained(x))


def _table(rows: list[dict]) -> Table:
    table = Table(title="A training step, milliseconds: median (20 %..80 %)")
    for name in ("network", "mode", "layers", "stock", "bn3d", "faster by"):
        table.add_column(name, justify="left" if name in ("network", "mode") else "right")
    for row in rows:
        table.add_row(
            row["network"],
            row["mode"],
            str(row["swapped_layers"]),
            quantiles(row, "stock"),
            quantiles(row, "bn3d"),
            f"{median(row, 'stock') / median(row, 'bn3d'):.2f}",
        )
    return table


if __name__ == "__main__":
    typer.run(main)
