"""Runs the measurements: every mode in a process of its own.

A process keeps one mode from its start: switching modes leaves the other mode's threads,
memory pool and compiled graphs behind. PyTorch and the copy run in both processes, so
each ratio compares two times of the same process.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bn3d.commands.bench import standard_error
from bn3d.commands.bench.cases import Case
from bn3d.commands.bench.timing import Call, Effort, other_load, take_turns

__all__ = [
    "measuring_process",
    "no_backend",
    "run_kernels",
    "run_layers",
    "run_waiting",
    "usable_cores",
]

Run = Callable[..., Any]


def usable_cores() -> int:
    """How many cores this process may run on; all there are where the system does not say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def measuring_process(mode: str | None, threads: int) -> Iterator[Run]:
    """A fresh process in `mode` whose libraries use `threads` threads; yields `run(f, *args)`.

    `mode` None: without MindSpore.
    """
    with tempfile.TemporaryDirectory(prefix="bn3d-") as folder:
        held_back = Path(folder, "standard_error")
        with ProcessPoolExecutor(
            max_workers=1,
            mp_context=get_context("spawn"),
            initializer=_enter,
            initargs=(mode, threads, held_back),
        ) as process:
            try:
                yield lambda function, *args: process.submit(function, *args).result()
            except BrokenExecutor:  # it died, and what it wrote may say why
                standard_error.show(held_back)
                raise


def _enter(mode: str | None, threads: int, held_back: Path) -> None:
    standard_error.hold_back_in(held_back)
    # As many cores as threads: what a library does beyond its setting cannot help it.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # A refused case is a result here, neither a page of MindSpore's log nor a dump in the
    # user's folder.
    os.environ.setdefault("GLOG_v", "4")
    os.environ.setdefault("MS_OM_PATH", tempfile.gettempdir())

    if mode is not None:
        import mindspore as ms  # noqa: PLC0415 - after the environment it reads

        ms.set_context(mode=getattr(ms, mode), runtime_num_threads=threads)
    try:
        import torch  # noqa: PLC0415 - optional
    except ImportError:
        return
    torch.set_num_threads(threads)


def no_backend() -> str | None:
    """Why bn3d has nothing to compute with in this process, None where it has."""
    from bn3d import backends  # noqa: PLC0415 - imports MindSpore

    try:
        backends.choose()
    except (RuntimeError, ValueError) as error:
        return str(error)
    return None


def run_waiting() -> dict:
    from bn3d.commands.bench.mindspore_steps import unfinished_work  # noqa: PLC0415 - imports MindSpore

    return unfinished_work()


def run_layers(case: Case, step: str, threads: int, effort: Effort, profile: bool) -> dict:
    """One row: every provider's time for a step, the copy's, and with `profile` also those of the
    layer's operators without the layer, and of their kernels without MindSpore.
    """
    from bn3d.commands.bench.kernels import step_kernels  # noqa: PLC0415
    from bn3d.commands.bench.layers import BARE, PROVIDERS, prepared  # noqa: PLC0415

    providers = {**PROVIDERS, "bare": BARE} if profile else PROVIDERS
    calls, refused = prepared(providers, case, step)
    if profile:
        calls["kernels"] = step_kernels(case, step, threads)
    return {"step": step, **_measured(case, calls, threads, effort), "refused": refused}


def run_kernels(case: Case, threads: int, effort: Effort) -> dict:
    """One row: every kernel of the CPU backend on prepared buffers, and the copy."""
    from bn3d.commands.bench.kernels import kernel_calls  # noqa: PLC0415

    return _measured(case, kernel_calls(case, threads), threads, effort)


def _measured(case: Case, calls: dict[str, Call], threads: int, effort: Effort) -> dict:
    """What every row has: the case, and the times of the calls and of a copy."""
    from bn3d.commands.bench.copying import fastest_copy  # noqa: PLC0415

    copy_name, copy = fastest_copy(case.nbytes, threads)
    load = other_load()
    timings = take_turns({**calls, "copy": copy}, effort)
    return {
        **asdict(case),
        "bytes": case.nbytes,
        "copied_by": copy_name,
        "other_load_cores": round(load(), 2),
        "milliseconds": {name: timing.as_json() for name, timing in timings.items()},
    }
