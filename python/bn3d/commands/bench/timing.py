"""Blocks of calls taking turns, with a pause between them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

__all__ = [
    "BUSY",
    "SPREAD",
    "Call",
    "Effort",
    "Timing",
    "other_load",
    "seconds",
    "take_turns",
    "together",
]

BUSY = 0.2  # cores that others keep busy: what was measured beside more than that says little
SPREAD = 0.3  # of the median: where 20 %..80 % of the times lie further apart, neither does it

Call = Callable[[], object]
Timer = Callable[[Call, int], list[float]]  # seconds of so many calls


@dataclass(frozen=True)
class Effort:
    """How long to measure: `blocks` turns for each call, each of about `block_seconds`."""

    blocks: int = 7
    block_seconds: float = 0.1
    most_calls: int = 200

    def calls_in_a_block(self, seconds_a_call: float) -> int:
        return int(np.clip(self.block_seconds / seconds_a_call, 3, self.most_calls))


@dataclass(frozen=True)
class Timing:
    """Quantiles of the wall time of one call in milliseconds.

    Attributes:
        p20, p50, p80: quantiles over all calls of all blocks.
        calls: how many were timed; a block timed `together` counts as one.
        page_faults: fresh pages the kernel had to hand out in one call, on average. A page
            costs about as much as copying it. NaN where the system does not count them.
    """

    p20: float
    p50: float
    p80: float
    calls: int
    page_faults: float

    def as_json(self) -> dict:
        return {name: round(value, 5) for name, value in asdict(self).items()}


def _one_by_one(call: Call, count: int) -> list[float]:
    """Seconds of each call, for calls that return when their results are there."""
    return [seconds(call) for _ in range(count)]


def together(wait: Callable[[], object]) -> Timer:
    """For calls that only begin their work: waits once after all, and knows their mean only."""

    def timer(call: Call, count: int) -> list[float]:
        def block() -> None:
            for _ in range(count):
                call()
            wait()

        wait()
        return [seconds(block) / count]

    return timer


def take_turns(
    calls: Mapping[str, Call], effort: Effort, timer: Timer = _one_by_one
) -> dict[str, Timing]:
    """Time every call in blocks; the order rotates, so nobody always follows the same one."""
    counts = {name: effort.calls_in_a_block(timer(call, 1)[0]) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    faults = dict.fromkeys(calls, 0.0)
    names = list(calls)
    for _ in range(effort.blocks):
        for name in names:
            call = calls[name]
            wait_until_quiet()
            call()  # wakes threads and fetches code; not counted
            before = _page_faults()
            times[name] += timer(call, counts[name])
            faults[name] += _page_faults() - before
        names.append(names.pop(0))
    return {
        name: _timing(times[name], faults[name] / (effort.blocks * counts[name])) for name in calls
    }


def wait_until_quiet(idle_share: float = 0.05, at_most: float = 1.0) -> None:
    """Pause until no thread of this process computes any more.

    In PyNative mode MindSpore's threads spin for about 0.25 s after a call and take a
    core from whoever comes next; PyTorch's OpenMP threads spin for some milliseconds.
    """
    nap = 0.01
    deadline = time.perf_counter() + at_most
    while time.perf_counter() < deadline:
        before = time.process_time()
        time.sleep(nap)
        if time.process_time() - before < idle_share * nap:
            return


def other_load() -> Callable[[], float]:
    """A function that tells how many cores other processes kept busy since now, on average.

    Near 0 on a machine that only measures; NaN where there is no /proc/stat.
    """
    start = time.perf_counter(), _busy_seconds(), time.process_time()

    def load() -> float:
        end = time.perf_counter(), _busy_seconds(), time.process_time()
        wall, busy, own = (e - s for s, e in zip(start, end, strict=True))
        return max((busy - own) / wall, 0.0)

    return load


def _busy_seconds() -> float:
    """Seconds that all cores together have worked since the system started."""
    try:
        ticks = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    except OSError:
        return float("nan")
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def seconds(call: Call) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _page_faults() -> float:
    try:
        import resource  # noqa: PLC0415, Windows has none
    except ImportError:
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _timing(times: list[float], page_faults: float) -> Timing:
    p20, p50, p80 = (float(q) for q in np.quantile(times, (0.2, 0.5, 0.8)) * 1e3)
    return Timing(p20, p50, p80, len(times), page_faults)
