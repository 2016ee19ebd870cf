"""What the workers compute and the tests check: batches and their shards, from seeds alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CHANNELS = 3
VOLUME = (3, 4, 5)
STEPS = 3
LEARNING_RATE = 0.1
EPS = 1e-5
MOMENTUM = 0.9


@dataclass(frozen=True)
class Case:
    """`batches` is the batch size of each rank; `mean` is in standard deviations."""

    name: str
    batches: tuple[int, ...]
    dtype: str = "float32"
    mean: float = 0.0

    def step(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The whole batch, x and dy. Ranks and channels differ in mean and deviation."""
        rng = np.random.default_rng([number, *self.batches])
        x = rng.standard_normal((sum(self.batches), CHANNELS, *VOLUME))
        ranks = np.repeat(np.arange(len(self.batches)), self.batches).reshape(-1, 1, 1, 1, 1)
        x = x * (1 + ranks) + ranks + self.mean + np.arange(CHANNELS).reshape(-1, 1, 1, 1)
        return x.astype(self.dtype), rng.standard_normal(x.shape).astype(self.dtype)

    def shard(self, whole: np.ndarray, rank: int) -> np.ndarray:
        return np.split(whole, np.cumsum(self.batches)[:-1])[rank]


# By the number of ranks.
CASES = {
    2: (
        Case("even", (2, 2)),
        Case("uneven", (1, 3)),
        Case("one rank empty", (0, 2)),
        Case("half", (2, 1), dtype="float16"),
        Case("far mean", (1, 2), mean=1e4),
    ),
    4: (
        Case("uneven", (1, 3, 0, 2)),
        Case("far mean", (1, 1, 1, 1), mean=1e4),
    ),
}
GROUPS = ([[0, 1], [2, 3]], [[0, 3, 1]], [[1], [3, 0]])  # of four ranks
SECOND_ORDER = Case("second order", (1, 2))


def directions(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """(u, v) for the gradients of sum(dx * u) + sum(dgamma * v)."""
    rng = np.random.default_rng(7)
    u = rng.standard_normal((sum(case.batches), CHANNELS, *VOLUME)).astype(np.float32)
    return u, rng.standard_normal(CHANNELS).astype(np.float32)
