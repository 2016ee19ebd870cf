"""A training step of whole networks: stock MindSpore, `bn3d.swap(network)`, and no norm layers.

python benchmarks/bench_networks.py [--quick]

All take turns step by step, and the differences are taken within a turn. The stock network takes
two steps a turn: what those differ by is the noise of the machine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from tables import network_lines

from bn3d import convolutions
from bn3d.commands.bench.report import describe_run
from bn3d.commands.bench.session import measuring_process, usable_cores
from bn3d.commands.bench.timing import BUSY, other_load
from bn3d.commands.paired import spread
from bn3d.commands.progress import progress
from bn3d.outputs import write_text

CONTENDERS = ("stock", "bn3d", "without", "stock again")
# How MindSpore runs them: its mode, and whether each operator ends before the next one begins.
WAYS = {
    "graph": ("GRAPH_MODE", False),
    "PyNative": ("PYNATIVE_MODE", False),
    "PyNative, `launch_blocking`": ("PYNATIVE_MODE", True),
}
WARM_UP = 2  # turns
LEAST_TURNS = 10


@dataclass(frozen=True)
class Network:
    """A class of architectures.py and the shape of its input."""

    name: str
    shape: tuple[int, int, int, int, int]


NETWORKS = (
    Network("ResNet18", (2, 3, 8, 48, 48)),
    Network("UNet", (2, 1, 24, 24, 24)),
    Network("VNet", (2, 1, 24, 24, 24)),
    Network("R2Plus1D", (2, 3, 8, 32, 32)),
    Network("DenseNet", (2, 1, 32, 32, 32)),
)


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Tiny inputs: does it run?")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: usable cores.")] = None,
    seconds: Annotated[float, typer.Option(min=0, help="For each network and mode.")] = 12.0,
    network: Annotated[list[str] | None, typer.Option(help="Only this one: ResNet18.")] = None,
    output: Annotated[Path, typer.Option(help="Folder of networks.json.")] = Path("out"),
):
    """Time training steps of five networks in graph mode and, in two ways, in PyNative mode."""
    if said := convolutions.use_fast():
        typer.echo(said)
    threads = threads or usable_cores()
    chosen = [each for each in NETWORKS if not network or each.name in network]
    if not chosen:
        names = ", ".join(each.name for each in NETWORKS)
        raise typer.BadParameter(f"--network must be one of {names}, got {network}")
    if quick:
        chosen = [Network(each.name, (2, each.shape[1], 8, 8, 8)) for each in chosen]
    rows = []
    with progress("networks", len(chosen) * len(WAYS)) as shown:
        for way, (mode, blocking) in WAYS.items():
            with measuring_process(mode, threads) as run:
                if blocking:
                    run(block)
                for each in chosen:
                    shown.say(f"{way} {each.name}")
                    rows.append({"mode": way, **run(measure, each, 0.0 if quick else seconds)})
                    shown.advance()
    result = {**describe_run(threads), "quick": quick, "networks": rows}
    if quick:
        typer.echo("A quick run: it works, and its times say nothing.")
    else:
        typer.echo("\n".join(network_lines(result)))
    for row in rows:
        if row["other_load_cores"] > BUSY:
            typer.echo(
                f"Warning: {row['network']} {row['mode']}: other work kept "
                f"{row['other_load_cores']} cores busy, measure it again"
            )
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / "networks.json", json.dumps(result, indent=1) + "\n")
    typer.echo(f"wrote {output / 'networks.json'}")


def block() -> None:
    """Let each operator end before the next one begins, for the rest of the process."""
    import mindspore as ms  # noqa: PLC0415

    ms.runtime.launch_blocking()


def measure(network: Network, seconds: float) -> dict:
    """One row: milliseconds of a training step of each, and their differences in a turn."""
    import bn3d  # noqa: PLC0415 - only the measuring process imports MindSpore

    swapped = []
    steps = {
        "stock": training_step(network),
        "bn3d": training_step(network, change=lambda net: swapped.extend(bn3d.swap(net).changed)),
        "without": training_step(network, without_norm=True),
    }
    steps["stock again"] = steps["stock"]
    times: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    load, start = None, time.perf_counter()
    order = list(CONTENDERS)
    turn = 0
    while turn < WARM_UP + LEAST_TURNS or time.perf_counter() < start + seconds:
        if turn == WARM_UP:  # compiled by now
            load, start = other_load(), time.perf_counter()
        for name in order:
            before = time.perf_counter()
            steps[name]()
            times[name].append(time.perf_counter() - before)
        order.append(order.pop(0))
        turn += 1

    def less(name: str, other: str):
        return spread(np.subtract(times[name], times[other]), WARM_UP)

    differences = {
        "saved": less("stock", "bn3d"),
        "noise": less("stock", "stock again"),
        "stock's norm layers": less("stock", "without"),
        "bn3d's norm layers": less("bn3d", "without"),
    }
    return {
        "network": network.name,
        "shape": network.shape,
        "swapped_layers": len(swapped),
        "other_load_cores": round(load(), 2),
        "distinguishable": not differences["saved"].overlaps(differences["noise"]),
        "milliseconds": {name: _json(spread(times[name], WARM_UP)) for name in times},
        "differences": {name: _json(value) for name, value in differences.items()},
    }


def _json(found) -> dict:
    return {name: round(value, 3) for name, value in asdict(found).items()}


def training_step(
    network: Network, change: Callable = lambda net: None, without_norm: bool = False
) -> Callable[[], object]:
    """Forward, mean square of the output as the loss, backward, momentum update."""
    import architectures as networks  # noqa: PLC0415
    import mindspore as ms  # noqa: PLC0415
    from mindspore import nn  # noqa: PLC0415

    from bn3d.commands.bench.mindspore_steps import wait_for  # noqa: PLC0415

    ms.set_seed(0)
    kind = getattr(networks, network.name)
    net = kind(norm=lambda channels: nn.Identity()) if without_norm else kind()
    change(net)
    # Too small a rate to change anything: without norm layers larger ones diverge, and numbers
    # that are not finite take other times.
    trained = nn.TrainOneStepCell(
        networks.MeanSquare(net), nn.Momentum(net.trainable_params(), 1e-6, 0.9)
    ).set_train()
    x = ms.Tensor(np.random.default_rng(0).standard_normal(network.shape, dtype=np.float32))
    return lambda: wait_for(trained(x))


if __name__ == "__main__":
    typer.run(main)
