"""What may be written instead gives the same values and gradients, in both modes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from alternatives import ENTRIES, forward_backward

PAIRS = [entry for entry in ENTRIES if entry.build_instead is not None]


def step(cell, x: np.ndarray) -> list[np.ndarray]:
    """y, dx and the weights' gradients for one dy, flat: a weight may have another shape."""
    x = ms.Tensor(x)
    shape = cell(x).shape
    dy = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    return _flat(forward_backward(cell)(x, ms.Tensor(dy)))


def _flat(result) -> list[np.ndarray]:
    if isinstance(result, ms.Tensor):
        return [result.asnumpy()]
    return [array for part in result for array in _flat(part)]


@pytest.mark.parametrize(
    "entry", [entry for entry in PAIRS if entry.at_zero], ids=lambda entry: entry.written
)
def test_the_gradient_at_zero_is_what_is_said(entry):
    x = np.zeros(entry.small, np.float32)
    written, instead = (step(made(), x)[1] for made in (entry.build, entry.build_instead))
    dy = np.random.default_rng(1).standard_normal(entry.small).astype(np.float32)
    other, stock = (
        float(re.match(r"[\d.]+", text)[0]) for text in entry.at_zero.split("instead of ")
    )
    np.testing.assert_allclose(written, stock * dy, rtol=1e-5)
    np.testing.assert_allclose(instead, other * dy, rtol=1e-5)


@pytest.mark.parametrize("entry", PAIRS, ids=lambda entry: f"{entry.written} {entry.instead}")
def test_values_and_gradients_are_the_same(entry, mode):
    x = 3 * np.random.default_rng(0).standard_normal(entry.small).astype(np.float32)
    if not entry.at_zero:
        x.flat[::7] = 0.0  # where an activation has its corner
    x.flat[::11] *= 10.0
    written, instead = step(entry.build(), x), step(entry.build_instead(), x)
    assert len(written) == len(instead)
    for number, (one, other) in enumerate(zip(written, instead, strict=True)):
        if number > 1 and one.ndim > 1:  # a convolution's weight, transposed
            one, other = np.sort(one, None), np.sort(other, None)  # noqa: PLW2901
        np.testing.assert_allclose(other.ravel(), one.ravel(), rtol=2e-5, atol=2e-5)
