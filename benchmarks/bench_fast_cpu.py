"""What the operators of 3-D networks cost on a CPU, and what else gives the same.

python benchmarks/bench_fast_cpu.py [--quick]      # then: python benchmarks/tables.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from bn3d import convolutions
from bn3d.commands.bench.report import describe_run
from bn3d.commands.bench.session import measuring_process, usable_cores
from bn3d.commands.bench.timing import BUSY, Effort, other_load, take_turns
from bn3d.commands.progress import progress
from bn3d.outputs import write_text


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Tiny inputs: does it run?")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: usable cores.")] = None,
    blocks: Annotated[int, typer.Option(min=1, help="Turns for each contender.")] = 3,
    only: Annotated[str, typer.Option(help="Of what is written, what this pattern finds.")] = "",
    output: Annotated[Path, typer.Option(help="Folder of fast_cpu.json.")] = Path("out"),
) -> None:
    """Time convolutions, activations, pooling, upsampling, softmax and losses in graph mode."""
    if said := convolutions.use_fast():
        typer.echo(said)
    threads = threads or usable_cores()
    effort = Effort(1 if quick else blocks, block_seconds=0.0 if quick else 0.1)
    rows = []
    with measuring_process("GRAPH_MODE", threads) as run:
        chosen = [n for n, text in enumerate(run(names)) if re.search(only, text)]
        with progress("operators", len(chosen)) as shown:
            for number in chosen:
                rows.append(run(measure, number, effort, quick))
                shown.advance(rows[-1]["written"])
    for row in rows:
        typer.echo(_line(row))
    output.mkdir(parents=True, exist_ok=True)
    result = {**describe_run(threads), "quick": quick, "rows": rows}
    write_text(output / "fast_cpu.json", json.dumps(result, indent=1) + "\n")
    typer.echo(f"wrote {output / 'fast_cpu.json'}")
    if quick:
        typer.echo("A quick run: it works, and its times say nothing.")


def names() -> list[str]:
    from alternatives import ENTRIES  # noqa: PLC0415 - only the measuring process loads MindSpore

    return [entry.written for entry in ENTRIES]


def measure(number: int, effort: Effort, quick: bool) -> dict:
    """One row: milliseconds forward, and forward and backward, of an entry and its alternative."""
    from alternatives import ENTRIES  # noqa: PLC0415

    entry = ENTRIES[number]
    shape = (*entry.shape[:2], 4, 4, 4) if quick else entry.shape
    calls = _calls("", entry.build(), shape)
    if entry.build_instead is not None:
        calls |= _calls("instead, ", entry.build_instead(), shape)
    load = other_load()
    timings = take_turns(calls, effort)
    return {
        "kind": entry.kind,
        "written": entry.written,
        "instead": entry.instead,
        "at_zero": entry.at_zero,
        "shape": shape,
        "other_load_cores": round(load(), 2),
        "milliseconds": {name: timing.as_json() for name, timing in timings.items()},
    }


def _calls(prefix: str, cell, shape: tuple[int, ...]) -> dict:
    import mindspore as ms  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415
    from alternatives import forward_backward  # noqa: PLC0415

    from bn3d.commands.bench.mindspore_steps import wait_for  # noqa: PLC0415

    x = ms.Tensor(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))
    both = forward_backward(cell)
    dy = ms.ops.ones_like(cell(x))
    calls = {"forward": lambda: wait_for(cell(x)), "with gradients": lambda: wait_for(both(x, dy))}
    for call in calls.values():
        call()  # compiles
    return {f"{prefix}{name}": call for name, call in calls.items()}


def _line(row: dict) -> str:
    times = "  ".join(f"{name} {time['p50']:.2f} ms" for name, time in row["milliseconds"].items())
    busy = f"  (busy: {row['other_load_cores']})" if row["other_load_cores"] > BUSY else ""
    return f"{row['written']} {row['shape']}: {times}{busy}"


if __name__ == "__main__":
    typer.run(main)
