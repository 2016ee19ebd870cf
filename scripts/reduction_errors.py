#!/usr/bin/env python3
"""What a second reduction is worth, as the Markdown of docs/ascend_reference.md.

One training step with the moving mean at 0, the first of any training, by `bn3d.backends.split`
over operators that compute in float32 as the kernels do. Additions are once pairwise, in about
the order of many cores, and once one after the other, the worst order of all.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import mindspore as ms
import numpy as np

from bn3d import reference
from bn3d.backends import composed, split
from bn3d.backends.backend import Operators

SHAPE = (2, 4, 16, 56, 56)  # 100352 values a channel
EPS = 1e-5


def pairwise(terms: np.ndarray) -> np.ndarray:
    return terms.sum(1, dtype=np.float32)


def sequential(terms: np.ndarray) -> np.ndarray:
    return terms.cumsum(1, dtype=np.float32)[:, -1]


def operators(add: Callable) -> Operators:
    def column(vector: ms.Tensor) -> np.ndarray:
        return vector.asnumpy().reshape(1, -1, 1, 1, 1)

    def reduce(x, shift):
        centered = np.moveaxis(x.asnumpy() - column(shift), 1, 0).reshape(SHAPE[1], -1)
        return ms.Tensor(add(centered)), ms.Tensor(add(centered * centered))

    def apply(x, mean, multiplier, offset):
        centered = x.asnumpy() - column(mean)
        return ms.Tensor(centered * column(multiplier) + column(offset))

    return composed.BACKEND.operators._replace(reduce=reduce, apply=apply)


def errors(mean: float, add: Callable, reductions: int) -> tuple[float, float]:
    """Largest error of y, and of the variance relative to it; the standard deviation is 1."""
    random = np.random.default_rng(0)
    x = random.normal(mean, 1, SHAPE).astype(np.float32)
    ones, zeros = (ms.Tensor(f(SHAPE[1], np.float32)) for f in (np.ones, np.zeros))
    moving = ms.Parameter(zeros, "mean"), ms.Parameter(ones, "variance")
    functions = split.build(operators(add))
    (y,) = functions.forward_training(ms.Tensor(x), ones, zeros, *moving, (EPS, 0.0, reductions))
    want = reference.forward_training(x, ones, zeros, zeros, ones, EPS, 0.0)
    variance = moving[1].asnumpy() / want.moving_variance - 1
    return float(np.abs(y.asnumpy() - want.y).max()), float(np.abs(variance).max())


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    ms.set_context(mode=ms.PYNATIVE_MODE)
    print("| mean/std | additions | y, 1 reduction | y, 2 | variance, 1 reduction | variance, 2 |")
    print("|---|---|---|---|---|---|")
    for mean in (0.0, 10.0, 100.0, 1e3, 1e4):
        for add in (pairwise, sequential):
            once, twice = (errors(mean, add, reductions) for reductions in (1, 2))
            cells = [f"{value:.0e}" for value in (once[0], twice[0], once[1], twice[1])]
            print(f"| {mean:g} | {add.__name__} | {' | '.join(cells)} |")
