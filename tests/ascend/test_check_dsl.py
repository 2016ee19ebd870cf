"""What of scripts/check_dsl.py needs no CANN tree, and the tables in docs/."""

import math
import sys
from collections import Counter
from pathlib import Path

import engine
import numpy as np
import pytest

from bn3d.operators import OPERATORS

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import ascend_roofline  # noqa: E402
import check_dsl  # noqa: E402


def test_shapes_are_small_enough_to_evaluate_or_large_enough_to_need_cores():
    rng = np.random.default_rng(0)
    for _ in range(50):
        small = check_dsl.random_shape(rng, large=False, itemsize=2)
        large = check_dsl.random_shape(rng, large=True, itemsize=2)
        assert math.prod(small) <= check_dsl.MOST_EVALUATED
        assert math.prod(large) * 2 > 2**20


class _FrontEnd:
    """Gives the judge's numbers off by `error`, on a schedule of `cores`."""

    class rejected(Exception):  # noqa: N801, N818
        pass

    def __init__(self, cores=32, error=0.0, refuses=False):
        self.cores, self.error, self.refuses = cores, error, refuses

    def compile(self, operator, soc, arguments):
        if self.refuses:
            raise self.rejected("no")
        schedule = {
            "path": "static",
            "tried": [
                ("AtomicSchedule.do_schedule", "declined"),
                ("XSchedule.do_schedule", "made"),
            ],
            "cores": self.cores,
        }
        return [type("Result", (), {"schedule": schedule})()]

    def outputs(self, result, operator, inputs, shape, layout, dtype):
        return [value * (1 + self.error) for value in engine.judge(operator, inputs)]


CASE = {"operator": "Bn3dApply", "soc": "Ascend910A", "format": "ND", "dtype": "float32"}


@pytest.mark.parametrize(
    ("front_end", "failures"),
    [
        (_FrontEnd(), 0),
        (_FrontEnd(error=1e-5), 2),  # of the two evaluated
        (_FrontEnd(cores=1), 3),  # of the three large
        (_FrontEnd(refuses=True), 5),
    ],
)
def test_a_wrong_number_a_single_core_and_a_rejection_are_failures(
    front_end, failures, monkeypatch
):
    monkeypatch.setattr(check_dsl, "MOST_EVALUATED", 2**17)  # 512 KiB: never large
    result = check_dsl.check(front_end, CASE, evaluated=2, large=3, seed=0)
    assert len(result["failures"]) == failures
    assert result["schedules"] == ({} if front_end.refuses else Counter({"static X": 5}))


def test_the_committed_table_is_whole_and_without_failures():
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in (ROOT / "docs/dsl_schedules.md").read_text().splitlines()
        if line.startswith("| Bn3d")
    ]
    known = [row for row in rows if len(row) == 10]
    unknown = [row for row in rows if len(row) == 4]
    wanted = {
        (operator.type, soc, layout)
        for operator in OPERATORS
        for soc in engine.SOCS
        for layout in engine.FORMATS
    }
    assert {tuple(row[:3]) for row in known} == {tuple(row[:3]) for row in unknown} == wanted
    for row in known:
        dtypes = len(engine.SOCS[row[1]][1])
        assert int(row[3]) >= 100 * dtypes
        assert row[-1] == "0"
        assert float(row[6]) < 1e-6
        assert row[5] == "by tiling" or int(row[5]) > 1


def test_the_committed_roofline_is_the_script_s():
    text = (ROOT / "docs/ascend.md").read_text()
    assert "\n".join(ascend_roofline.operators()) in text
    assert "\n".join(ascend_roofline.passes()) in text
