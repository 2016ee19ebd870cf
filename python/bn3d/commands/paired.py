"""Times of steps that took turns: what counts is their difference, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Spread", "spread"]


@dataclass(frozen=True)
class Spread:
    """Median and 20 % and 80 % quantiles in milliseconds; NaN if nothing was measured."""

    p20: float
    p50: float
    p80: float
    steps: int

    def overlaps(self, other: Spread) -> bool:
        """Whether the two cannot be told apart; what was not measured cannot."""
        return not (self.p80 < other.p20 or other.p80 < self.p20)

    def __str__(self) -> str:
        if not self.steps:
            return "not measured"
        return f"{self.p50:.1f} ({self.p20:.1f}..{self.p80:.1f})"


def spread(seconds: Sequence[float] | np.ndarray, warm_up: int = 0) -> Spread:
    """Of the steps after the warm-up in which it was measured, where it is not NaN."""
    measured = np.array(seconds[warm_up:], float)
    measured = 1e3 * measured[np.isfinite(measured)]
    if not measured.size:
        return Spread(np.nan, np.nan, np.nan, 0)
    p20, p50, p80 = (float(q) for q in np.quantile(measured, (0.2, 0.5, 0.8)))
    return Spread(p20, p50, p80, measured.size)
