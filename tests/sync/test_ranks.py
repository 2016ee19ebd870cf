"""Two and four ranks against one device with the whole batch, in float64 or by stock layers.

Each number of ranks is one job of `worker.py`; the tests read what its ranks have saved.
"""

from __future__ import annotations

import functools
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from cases import (
    CASES,
    CHANNELS,
    EPS,
    GROUPS,
    LEARNING_RATE,
    MOMENTUM,
    SECOND_ORDER,
    STEPS,
    Case,
    directions,
)
from mindspore import nn
from msrun import HERE, Job, msrun

from bn3d import reference

PARAMETERS = ("gamma", "beta", "moving_mean", "moving_variance")
# Of the largest value of a result.
TOLERANCE = {"float32": 1e-6, "float16": 1e-3}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A function: number of ranks -> folder of the job with that many, which runs once."""

    @functools.cache
    def run(ranks: int) -> tuple[Path, Job]:
        folder = tmp_path_factory.mktemp(f"ranks{ranks}")
        return folder, msrun(HERE / "worker.py", ranks, folder, str(folder))

    def successful(ranks: int) -> Path:
        folder, job = run(ranks)
        if job.returncode != 0:
            pytest.fail(str(job), pytrace=False)
        return folder

    return successful


def load(folder: Path, name: str, ranks: int) -> list[dict[str, np.ndarray]]:
    return [dict(np.load(folder / f"{name}-{rank}.npz")) for rank in range(ranks)]


def assert_close(found: np.ndarray, wanted: np.ndarray, tolerance: float, name: str) -> None:
    assert found.shape == wanted.shape
    error, largest = np.abs(found - wanted).max(), np.abs(wanted).max()
    assert error <= tolerance * largest, f"{name}: off by {error:.1e}, values up to {largest:.1e}"


def train_whole_batch(case: Case) -> dict[str, np.ndarray]:
    """`worker.train` on one device in float64."""
    gamma, beta = np.ones(CHANNELS), np.zeros(CHANNELS)
    moving_mean, moving_variance = np.zeros(CHANNELS), np.ones(CHANNELS)
    results = {}
    for step in range(STEPS):
        x, dy = case.step(step)
        y, mean, variance, moving_mean, moving_variance = reference.forward_training(
            x, gamma, beta, moving_mean, moving_variance, EPS, MOMENTUM
        )
        dx, dgamma, dbeta = reference.gradient_training(dy, x, gamma, mean, variance, EPS)
        results |= {f"y{step}": y, f"dx{step}": dx}
        gamma = gamma - LEARNING_RATE * dgamma / len(case.batches)
        beta = beta - LEARNING_RATE * dbeta / len(case.batches)
    results |= zip(PARAMETERS, (gamma, beta, moving_mean, moving_variance), strict=True)
    results["inference"] = reference.forward_inference(
        x, gamma, beta, moving_mean, moving_variance, EPS
    )
    return results


@pytest.mark.parametrize("mode", ["pynative", "graph"])
@pytest.mark.parametrize(
    ("ranks", "case"), [(n, case) for n, cases in CASES.items() for case in cases]
)
def test_training_is_that_of_the_whole_batch(saved, ranks, case, mode):
    found = load(saved(ranks), f"{case.name}-{mode}", ranks)
    for name, wanted in train_whole_batch(case).items():
        if name in PARAMETERS:
            for other in found[1:]:
                np.testing.assert_array_equal(other[name], found[0][name], err_msg=name)
            assert_close(found[0][name], wanted, TOLERANCE["float32"], name)
        else:
            whole = np.concatenate([rank[name] for rank in found])
            assert whole.dtype == case.dtype
            assert_close(whole, wanted, TOLERANCE[case.dtype], name)


@pytest.mark.parametrize("mode", ["pynative", "graph"])
@pytest.mark.parametrize("ranks", [2, 4])
def test_layers_beside_each_other(saved, ranks, mode):
    x, dy = CASES[ranks][0].step(0)
    ones, zeros = np.ones(CHANNELS), np.zeros(CHANNELS)
    y = dx = 0
    for branch, slope in ((x, 1), (np.square(x), 2 * x)):
        forward = reference.forward_training(branch, ones, zeros, zeros, ones, EPS)
        y = y + forward.y
        dx = (
            dx
            + slope
            * reference.gradient_training(dy, branch, ones, forward.mean, forward.variance, EPS)[0]
        )
    found = load(saved(ranks), f"branches-{mode}", ranks)
    for name, wanted in (("y", y), ("dx", dx)):
        assert_close(np.concatenate([rank[name] for rank in found]), wanted, 2e-6, name)


def test_second_order(saved):
    x, dy = SECOND_ORDER.step(0)
    u, v = map(ms.Tensor, directions(SECOND_ORDER))
    stock = nn.BatchNorm3d(CHANNELS, eps=EPS).set_train()
    gradient = ms.grad(lambda x, dy: (stock(x) * dy).sum(), 0, weights=stock.trainable_params())

    def of_gradient(x, dy):
        dx, (dgamma, _) = gradient(x, dy)
        return (dx * u).sum() + (dgamma * v).sum()

    wanted = ms.grad(of_gradient, (0, 1))(ms.Tensor(x), ms.Tensor(dy))
    found = load(saved(2), "second order", 2)
    for name, one in zip(("d_x", "d_dy"), wanted, strict=True):
        assert_close(np.concatenate([rank[name] for rank in found]), one.asnumpy(), 1e-5, name)


@pytest.mark.parametrize("number", range(len(GROUPS)))
def test_process_groups(saved, number):
    case, found = CASES[4][0], load(saved(4), f"groups {number}", 4)
    x = case.step(0)[0]
    ones, zeros = np.ones(CHANNELS), np.zeros(CHANNELS)
    alone = set(range(4)) - {rank for ranks in GROUPS[number] for rank in ranks}
    for ranks in [*GROUPS[number], *([rank] for rank in alone)]:
        together = np.concatenate([case.shard(x, rank) for rank in ranks])
        wanted = reference.forward_training(together, ones, zeros, zeros, ones, EPS).y
        if wanted.size:
            y = np.concatenate([found[rank]["y"] for rank in ranks])
            assert_close(y, wanted, TOLERANCE["float32"], str(ranks))


def test_a_rank_that_does_not_exist(saved):
    for rank in load(saved(4), "refusal", 4):
        assert "'process_groups' must hold ranks from 0 to 3, got 4" in str(rank["text"])


def test_cross_check_judges_the_batch_of_all_ranks(saved):
    for rank in load(saved(2), "cross-checked", 2):
        assert rank["ok"].tolist() == [True, False]
        assert set(rank["compared"]) == {
            *("y", "dx", "dgamma", "dbeta"),
            *("moving_mean", "moving_variance"),
        }
