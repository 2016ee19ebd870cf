"""What may be said of the demo's result, and what not."""

from __future__ import annotations

import numpy as np

from bn3d.commands.bench.timing import BUSY
from bn3d.commands.demo.training import Result, Run
from bn3d.commands.demo.volume import TISSUES

__all__ = ["accuracy", "doubts", "verdict"]

SAME_DICE = 0.01  # from one seed, less than a hundredth says nothing


def doubts(result: Result) -> list[str]:
    """Why this run should not be quoted; empty if it may be."""
    found = []
    if result.stopped:
        found.append("It was stopped before its end: this is what was measured until then.")
    if result.quick:
        found.append("It was a quick run, which only shows that everything works.")
    elif result.norm_layers(result.swapped).steps < 20:
        found.append("It had too few steps to tell a difference of times from chance.")
    if not result.other_load <= BUSY:
        busy = f"{result.other_load:.1f}" if np.isfinite(result.other_load) else "unknown"
        found.append(
            f"The machine was busy with other work ({busy} cores, {BUSY} are tolerable): "
            "the times are not to be trusted."
        )
    return found


def verdict(result: Result) -> str:
    """One sentence; without any number if there are doubts."""
    if doubts(result):
        return "No verdict from this run."
    return f"{accuracy(result)}; {_times(result)}."


def accuracy(result: Result) -> str:
    apart = _dice_apart(result, result.swapped)
    control = _dice_apart(result, result.control)
    if apart <= control:
        return "Same accuracy within the control"
    if apart < SAME_DICE:
        return f"Same accuracy: each tissue's Dice within {SAME_DICE}"
    return f"The Dice of a tissue differs by {apart:.2f}, in the control by {control:.2f}"


def _dice_apart(result: Result, run: Run) -> float:
    return max(abs(run.dice[tissue] - result.stock.dice[tissue]) for tissue in TISSUES)


def _times(result: Result) -> str:
    if not result.distinguishable:
        return "the time of a step is not distinguishable here"
    stock, swapped = result.norm_layers(result.stock), result.norm_layers(result.swapped)
    whole = result.step(result.stock).p50
    return (
        f"the norm layers take {swapped.p50:.0f} ms instead of {stock.p50:.0f} "
        f"of a step of {whole:.0f} ms"
    )
