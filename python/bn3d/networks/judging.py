"""One call of a batch norm layer, held against the judge in float64.

How far a result may be off is said relative to a scale, per channel: the size of the terms that it
is made of. A sum of a million terms that cancel cannot be right to its own last digit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bn3d import reference
from bn3d.reference import TOLERANCES

__all__ = [
    "EPSILON",
    "Judged",
    "Quantity",
    "State",
    "Statistics",
    "hold",
    "judge",
    "judge_gradient",
]

Array = NDArray[np.float64]

# A unit in the last place of numbers from 1 to 2.
EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}

_AXES = (0, 2, 3, 4)


@dataclass(frozen=True)
class State:
    """What a layer normalises with, before a call: float64 (C,), and how it was set.

    `by_batch` says whether the call normalises by the batch, `updates` whether it changes the
    moving statistics, which are None in a layer without.
    """

    gamma: Array
    beta: Array
    moving_mean: Array | None
    moving_variance: Array | None
    eps: float
    momentum: float
    by_batch: bool
    updates: bool


class Statistics(NamedTuple):
    """What a call normalises by, (C,); of all devices if they share the batch."""

    mean: Array
    variance: Array


@dataclass(frozen=True)
class Judged:
    """What the judge expects of a call, each result with its scale."""

    y: tuple[Array, Array]
    statistics: Statistics
    moving_mean: tuple[Array, Array] | None
    moving_variance: tuple[Array, Array] | None


@dataclass(frozen=True)
class Quantity:
    """How one result compares.

    Attributes:
        name: y, dx, dgamma, dbeta, moving_mean or moving_variance.
        dtype: of the result.
        error: the largest, relative to its scale; infinite where a value is not finite and the
            judge's is, or the other way round.
        worst: (got, expected) at the largest error.
    """

    name: str
    dtype: str
    error: float
    worst: tuple[float, float]

    @property
    def ulp(self) -> float:
        """The error in units in the last place of the result's dtype, at the scale."""
        return self.error / EPSILON[self.dtype]

    @property
    def ok(self) -> bool:
        """Whether the error is within `TOLERANCES`."""
        return self.error <= TOLERANCES[self.dtype]


# Rows of numbers of all devices that share a batch, from the row of this one: (R, n) from (n,).
Gather = Callable[[Array], Array]


def judge(x: Array, state: State, gather: Gather | None = None) -> Judged:
    """What `bn3d.reference` makes of a forward pass over x (N, C, D, H, W), with `gather` as a
    part of a batch that spans devices.
    """
    nothing = np.zeros(x.shape[1])
    moving = (
        nothing if state.moving_mean is None else state.moving_mean,
        nothing if state.moving_variance is None else state.moving_variance,
    )
    if state.by_batch:
        batch = None
        if gather is not None:
            mean, variance = reference.batch_statistics(x)
            rows = gather(np.concatenate([[x.size // x.shape[1]], mean, variance]))
            batch = reference.merged(
                [reference.Batch(row[0], *np.split(row[1:], 2)) for row in rows]
            )
        want = reference.forward_training(
            x, state.gamma, state.beta, *moving, state.eps, state.momentum, batch
        )
        y, mean, variance = want.y, want.mean, want.variance
        after = (want.moving_mean, want.moving_variance) if state.updates else moving
    else:
        mean, variance = after = moving
        y = reference.forward_inference(x, state.gamma, state.beta, mean, variance, state.eps)
    statistics = Statistics(mean, variance)
    if state.moving_mean is None:
        return Judged((y, _largest(y)), statistics, None, None)
    new = 1 - state.momentum if state.updates else 0.0
    scale = np.abs(state.moving_mean) + new * _largest(x)
    moving_variance = (after[1], np.abs(after[1]))
    return Judged((y, _largest(y)), statistics, (after[0], scale), moving_variance)


def judge_gradient(
    dy: Array, x: Array, state: State, statistics: Statistics, gather: Gather | None = None
) -> dict[str, tuple[Array, Array]]:
    """What `bn3d.reference` makes of the backward pass: dx, dgamma and dbeta with their scales."""
    mean, variance = statistics
    arguments = (dy, x, state.gamma, mean, variance, state.eps)
    if not state.by_batch:
        dx, dgamma, dbeta = reference.gradient_inference(*arguments)
    else:
        whole = None
        if gather is not None:
            sums = np.concatenate(reference.grad_reduce(dy, x, mean))
            rows = gather(np.concatenate([[x.size // x.shape[1]], sums])).sum(0)
            whole = (rows[0], *np.split(rows[1:], 2))
        dx, dgamma, dbeta = reference.gradient_training(*arguments, whole)
    with np.errstate(divide="ignore"):
        rstd = 1 / np.sqrt(variance + state.eps)
    rstd = np.where(np.isfinite(rstd), rstd, 0.0)
    normalized = np.abs(x - _per_channel(mean)) * _per_channel(rstd)
    return {
        "dx": (dx, np.abs(state.gamma * rstd) * _largest(dy)),
        "dgamma": (dgamma, (np.abs(dy) * normalized).sum(_AXES)),
        "dbeta": (dbeta, np.abs(dy).sum(_AXES)),
    }


def hold(name: str, dtype: str, got: Array, want: Array, scale: Array) -> Quantity:
    """Compare a result with the judge's: volumes (N, C, D, H, W) or vectors (C,), with a scale of
    the same shape or (C,).
    """
    if got.ndim > scale.ndim:
        scale = _per_channel(scale)
    if got.size == 0:
        return Quantity(name, dtype, 0.0, (0.0, 0.0))
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(got - want) / np.maximum(scale, np.finfo(np.float32).tiny)
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    error = np.where(same, 0.0, np.where(np.isfinite(error), error, np.inf))
    at = np.unravel_index(np.argmax(error), error.shape)
    return Quantity(name, dtype, float(error[at]), (float(got[at]), float(want[at])))


def _largest(volume: Array) -> Array:
    return np.abs(volume).max(_AXES, initial=0.0)


def _per_channel(vector: Array) -> Array:
    return vector.reshape(1, -1, 1, 1, 1)
