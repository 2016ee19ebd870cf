"""One comparison with the judge."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mindspore as ms
import numpy as np

from bn3d.networks.judging import hold
from bn3d.reference import TOLERANCES

__all__ = ["Case", "Check", "compare", "guarded"]


@dataclass(frozen=True)
class Case:
    """A volume's shape and dtype, and the mode that MindSpore runs in."""

    shape: tuple[int, int, int, int, int]
    dtype: str
    mode: str


@dataclass(frozen=True)
class Check:
    """How one output compares.

    Attributes:
        subject: an operator's type, or what the layer did.
        output: its name.
        case: what it was computed of.
        error: largest error of a value relative to its scale; NaN if there is a NaN.
        tolerance: the largest error that is right.
        failure: why there is no output at all, else "".
    """

    subject: str
    output: str
    case: Case
    error: float
    tolerance: float
    failure: str = ""

    @property
    def ok(self) -> bool:
        return not self.failure and self.error <= self.tolerance


def compare(
    subject: str,
    output: str,
    case: Case,
    got: ms.Tensor,
    expected: np.ndarray,
    scale: np.ndarray,
) -> Check:
    """Compare an output with the judge's.

    `scale` says what a value's error is relative to, such as the sum of the absolute values that
    a sum adds up; it is of the output's shape, or (C,).
    """
    tolerance = TOLERANCES[str(got.dtype).lower()]
    values = got.astype(ms.float32) if got.dtype == ms.bfloat16 else got
    values = values.asnumpy().astype(np.float64)
    if values.shape != expected.shape:
        failure = f"shape {values.shape} instead of {expected.shape}"
        return Check(subject, output, case, float("nan"), tolerance, failure)
    error = hold(output, str(got.dtype).lower(), values, expected, scale).error
    return Check(subject, output, case, error if math.isfinite(error) else math.nan, tolerance)


def guarded(subject: str, case: Case, checks: Callable[[], Iterator[Check]]) -> list[Check]:
    """The checks; a failed one if computing them raised: others are still worth their answer."""
    done: list[Check] = []
    try:
        done.extend(checks())
    except Exception as error:
        said = str(error).strip().partition("\n")[0]  # MindSpore says a page
        failure = f"{type(error).__name__}: {said}".removesuffix(": ")
        done.append(Check(subject, "", case, float("nan"), 0.0, failure))
    return done
