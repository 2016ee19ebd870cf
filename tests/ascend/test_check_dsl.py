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
import dsl_costs  # noqa: E402
import measure_dsl  # noqa: E402


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
    text = (ROOT / "docs/dsl_schedules.md").read_text().partition(dsl_costs.HEADING)[2]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in text.splitlines()
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
    text = (ROOT / "docs/ascend_reference.md").read_text()
    assert "\n".join(ascend_roofline.operators()) in text
    assert "\n".join(ascend_roofline.passes()) in text


def test_what_is_missing_of_the_tools_is_said(monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match=f"no real_dsl/real_dsl_check.py in {tmp_path}"):
        check_dsl.FrontEnd(tmp_path / "real_dsl", None, None)
    monkeypatch.delenv("BN3D_DSL_TOOLS", raising=False)
    with pytest.raises(SystemExit, match="set BN3D_DSL_TOOLS to the directory of the tools"):
        measure_dsl.tools()
    monkeypatch.setenv("BN3D_DSL_TOOLS", str(tmp_path))
    with pytest.raises(SystemExit, match=f"no real_dsl/real_dsl_check.py in {tmp_path}"):
        measure_dsl.tools()


def test_repeats_are_counted_as_the_emitters_of_python_make_them():
    region = {"insn": "vector_sub", "exec": 2, "elems": 4096, "n32": 256}
    assert measure_dsl.repeats(region, 1024) == 256
    # two calls of two rows of 1024 elements: 4 repeats to copy each vector, then 64 lanes at once
    region["insn"] = "vector_sub_with_broadcast"
    assert measure_dsl.repeats(region, 1024) == 2 * 2 * 4 + 4096 / 64
    # two sums of 1024 elements, 16 repeats: 15 to add them up, 4 for the 16 lanes of the last
    region = {"insn": "vector_dichotomy_add_for_bn_reduce", "exec": 1, "elems": 2048}
    assert measure_dsl.repeats(region, 0) == 2 * (15 + 4)
