"""The stand-in for `tbe.dsl` gives the verdicts that the real front end gave."""

import json
from pathlib import Path

import pytest
import tbe.dsl
from tbe.common import platform
from tbe.graph import Tensor
from tbe.tvm import placeholder

CASES = json.loads((Path(__file__).parent / "goldens/dsl_rules.json").read_text())["cases"]


def _argument(described):
    if "tensor" in described:
        dtype, shape = described["tensor"]
        return placeholder(shape, dtype)
    if "tensors" in described:
        return [placeholder(shape, dtype) for dtype, shape in described["tensors"]]
    return described["value"]


def _verdict(case):
    platform.set_soc(case["soc"])
    try:
        outputs = getattr(tbe.dsl, case["call"])(*map(_argument, case["args"]))
    except RuntimeError as error:
        return {"rejected": type(error).__name__, "code": error.args[0]["errCode"]}
    outputs = [outputs] if isinstance(outputs, Tensor) else outputs
    return {"ok": [[output.dtype, list(output.shape)] for output in outputs]}


@pytest.mark.parametrize("call", sorted({case["call"] for case in CASES}))
def test_verdicts_are_those_of_the_real_front_end(call):
    cases = [case for case in CASES if case["call"] == call]
    assert [_verdict(case) for case in cases] == [case["result"] for case in cases]


def test_every_golden_is_looked_at():
    assert len(CASES) == 400


@pytest.mark.parametrize("name", ["vrsqr", "sigmoid", "mean", "full"])
def test_names_the_real_dsl_lacks_fail(name):
    with pytest.raises(AttributeError):
        getattr(tbe.dsl, name)
