"""What `bn3d.fold` costs: forward passes, seconds and memory, for the networks of bench_networks.

python benchmarks/bench_fold.py [--quick]

Each network is folded once, in a fresh process, after two inferences. Memory is by how much the
process's peak grows: for the inferences, and then for `fold`.
"""

from __future__ import annotations

import resource
import sys
import time
from typing import Annotated

import numpy as np
import typer
from bench_networks import NETWORKS, Network

from bn3d import convolutions
from bn3d.commands.bench.session import measuring_process, usable_cores
from bn3d.commands.bench.timing import BUSY, other_load

COLUMNS = ("network", "folded", "passes", "error", "inference s", "fold s", "parameters MB")
COLUMNS += ("inference MB", "fold MB", "busy cores of others")


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Tiny inputs: does it run?")] = False,
):
    """Fold five networks; print a table."""
    if said := convolutions.use_fast():
        typer.echo(said)
    typer.echo(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    for network in NETWORKS:
        shape = (1, network.shape[1], 8, 8, 8) if quick else network.shape
        with measuring_process("PYNATIVE_MODE", usable_cores()) as run:
            row = run(measure, Network(network.name, shape))
        typer.echo(f"| {' | '.join(row[name] for name in COLUMNS)} |")
        if float(row["busy cores of others"]) > BUSY:
            typer.echo("(its seconds say little: the machine was busy)", err=True)


def measure(network: Network) -> dict[str, str]:
    """One row."""
    import architectures  # noqa: PLC0415 - only the measuring process imports MindSpore
    import mindspore as ms  # noqa: PLC0415

    import bn3d  # noqa: PLC0415

    ms.set_seed(0)
    random = np.random.default_rng(0)
    net = getattr(architectures, network.name)().set_train(False)
    for p in net.get_parameters():
        if p.name.endswith(("gamma", "variance")):
            p.set_data(ms.Tensor(random.uniform(0.5, 2, p.shape), p.dtype))
        elif p.ndim == 1:
            p.set_data(ms.Tensor(random.uniform(-1, 1, p.shape), p.dtype))
    x = ms.Tensor(random.standard_normal(network.shape, dtype=np.float32))
    passes = 0

    def infer():
        nonlocal passes
        passes += 1
        y = net(x)
        y.asnumpy()
        return y

    load, before = other_load(), peak()
    infer()
    inference = seconds(infer)
    after, passes = peak(), 0
    report = None

    def fold():
        nonlocal report
        report = bn3d.fold(net, run=infer)

    fold_seconds = seconds(fold)
    parameters = sum(p.nbytes for p in net.get_parameters()) / 1e6
    values = network.name, f"{len(report.folded)} of {len(report.folded) + len(report.left)}"
    error = "-" if report.error is None else f"{report.error:.0e}"
    values += str(passes), error, f"{inference:.2f}", f"{fold_seconds:.1f}"
    values += f"{parameters:.1f}", f"{after - before:.0f}", f"{peak() - after:.0f}"
    return dict(zip(COLUMNS, (*values, f"{load():.1f}"), strict=True))


def seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak() -> float:
    """The process's largest memory so far, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


if __name__ == "__main__":
    typer.run(main)
