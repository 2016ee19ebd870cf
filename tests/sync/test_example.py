"""`examples/train_data_parallel.py`: two ranks train as one device with the doubled batch."""

from __future__ import annotations

import csv
import subprocess
import sys

import numpy as np
from msrun import REPOSITORY, msrun

EXAMPLE = REPOSITORY / "examples" / "train_data_parallel.py"
STEPS = 3


def losses(path) -> np.ndarray:
    with path.open(newline="") as file:
        return np.array([float(row["loss"]) for row in csv.DictReader(file)])


def test_losses_are_those_of_one_device(tmp_path, child_environment):
    curves = [tmp_path / "one.csv", tmp_path / "two.csv"]
    options = [["--steps", str(STEPS), "--batch", "4", "--curve", str(curve)] for curve in curves]
    subprocess.run(
        [sys.executable, EXAMPLE, *options[0]],
        check=True,
        capture_output=True,
        cwd=tmp_path,
        env=child_environment,
        timeout=300,
    )
    job = msrun(EXAMPLE, 2, tmp_path / "job", *options[1])
    assert job.returncode == 0, str(job)
    one, two = map(losses, curves)
    assert len(one) == STEPS
    # Convolutions of two patches round differently from those of four.
    np.testing.assert_allclose(two, one, rtol=1e-4)
