"""`bn3d verify`: it passes what is right, and finds what is not."""

from __future__ import annotations

import dataclasses
import json
import re
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from typer.testing import CliRunner

from backends import standin
from bn3d import backends, reference
from bn3d.backends.composed import BACKEND as COMPOSED
from bn3d.backends.native import BACKEND as NATIVE
from bn3d.commands.cli import app
from bn3d.commands.verify import operators as verify_operators
from bn3d.commands.verify import session
from bn3d.commands.verify.check import Case, compare
from bn3d.operators import OPERATORS, Operator, Tensor

SHAPE = (2, 3, 2, 4, 4)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(session, "QUICK_SHAPES", (SHAPE,))


def test_the_cpu_passes_and_the_file_has_every_result(tmp_path):
    file = tmp_path / "verify.json"
    done = CliRunner().invoke(app, ["verify", "--quick", "--json", str(file)])
    assert done.exit_code == 0, done.output
    verdict, *rest = (s for s in done.output.splitlines() if not s.startswith("verify: "))
    assert re.fullmatch(r"right: all \d+ checks passed, backend native on CPU", verdict)
    assert rest[-1] == f"wrote {file}"
    report = json.loads(file.read_text())
    assert (report["device"], report["backend"]) == ("CPU", "native")
    checks = report["checks"]
    assert all(check["ok"] and check["error"] <= check["tolerance"] for check in checks)
    assert {check["mode"] for check in checks} == {"PYNATIVE_MODE", "GRAPH_MODE"}
    assert {check["dtype"] for check in checks} == {"float32", "float16", "bfloat16"}
    outputs = {(check["subject"].split(",")[0], check["output"]) for check in checks}
    assert outputs == {
        ("Bn3dReduce", "sum"),
        ("Bn3dReduce", "square_sum"),
        ("Bn3dApply", "y"),
        ("Bn3dGradReduce", "sum_dy"),
        ("Bn3dGradReduce", "sum_dy_centered"),
        ("Bn3dGradApply", "dx"),
        *(
            ("layer", output)
            for output in ("y", "dx", "dgamma", "dbeta", "moving_mean", "moving_variance")
        ),
    }


def test_json_to_stdout_is_only_json(monkeypatch):
    monkeypatch.setattr(session, "MODES", ("PYNATIVE_MODE",))
    done = CliRunner().invoke(app, ["verify", "--quick", "--json", "-"])
    assert (done.exit_code, json.loads(done.stdout)["backend"]) == (0, "native")


def test_the_ascend_backend_over_the_operators_of_the_cpu_passes():
    with pytest.MonkeyPatch.context() as patch:
        ascend = standin.ascend_on_cpu(patch)
        standin.use(dataclasses.replace(ascend, dtypes=("float16",)), patch)
        checks = list(session.verify(backends.choose(), (SHAPE,)))
    assert checks
    assert not [check for check in checks if not check.ok]


def broken(**replaced):
    """The native backend with other operators."""
    operators = NATIVE.operators._replace(**replaced)
    return backends.Choice(dataclasses.replace(NATIVE, name="broken", operators=operators))


def test_a_wrong_operator_fails_and_only_that():
    def apply(x, mean, multiplier, offset):
        return NATIVE.operators.apply(x, mean, multiplier, offset * 1.001)

    checks = list(session.verify(broken(apply=apply), (SHAPE,), ("PYNATIVE_MODE",)))
    wrong = {(check.subject, check.case.dtype) for check in checks if not check.ok}
    assert ("Bn3dApply", "float32") in wrong
    assert {subject for subject, _ in wrong} == {"Bn3dApply"}


@pytest.mark.parametrize(("error", "right"), [(0.0, True), (1e-2, False)])
def test_an_operator_of_another_form_is_judged_by_the_names_of_its_vectors(
    error, right, monkeypatch
):
    """X + offset: a scale that subtracted its one vector would be small where x is like it."""
    made_up = Operator(
        "Bn3dAdd",
        "bn3d_add",
        (Tensor("x", "volume"), Tensor("offset", "channel")),
        (Tensor("y", "volume"),),
    )

    def add(x, offset):
        return x + offset.reshape(1, -1, 1, 1, 1)

    monkeypatch.setattr(verify_operators, "OPERATORS", (*OPERATORS, made_up))
    monkeypatch.setattr(reference, "add", add, raising=False)
    operators = SimpleNamespace(add=lambda x, offset: add(x, offset + error).astype(x.dtype))
    backend = SimpleNamespace(operators=operators, compiled=None)
    case = Case(SHAPE, "float16", "PYNATIVE_MODE")
    (found,) = verify_operators.check_operator(backend, made_up, case)
    assert found.ok is right


def test_an_operator_that_raises_is_a_failed_check_and_the_rest_is_checked():
    def reduce(x, shift):
        raise RuntimeError("aclopCompileAndExecute failed\nmore")

    checks = list(session.verify(broken(reduce=reduce), (SHAPE,), ("PYNATIVE_MODE",)))
    failures = [check for check in checks if check.subject == "Bn3dReduce"]
    assert {f.failure for f in failures} == {"RuntimeError: aclopCompileAndExecute failed"}
    assert all(check.ok for check in checks if check.subject != "Bn3dReduce")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1.001])
def test_what_is_no_result(value):
    case = Case(SHAPE, "float32", "PYNATIVE_MODE")
    got = ms.Tensor(np.array([1.0, value], np.float32))
    assert not compare("x", "y", case, got, np.ones(2), np.ones(2)).ok
    assert compare("x", "y", case, got[:1], np.ones(1), np.ones(1)).ok
    assert "shape" in compare("x", "y", case, got, np.ones(1), np.ones(1)).failure


def test_a_failure_is_exit_code_1(monkeypatch):
    def grad_apply(*inputs):
        return NATIVE.operators.apply(inputs[0], *inputs[2:5])

    choice = broken(grad_apply=grad_apply)
    monkeypatch.setattr(session, "set_device", lambda device: choice)
    monkeypatch.setattr(session, "MODES", ("PYNATIVE_MODE",))
    done = CliRunner().invoke(app, ["verify", "--quick"])
    assert done.exit_code == 1
    verdict = next(line for line in done.output.splitlines() if not line.startswith("verify: "))
    assert re.fullmatch(r"wrong: \d+ of \d+ checks failed, backend broken on CPU", verdict)
    assert "FAILED" in done.output
    assert "Bn3dGradApply dx PYNATIVE_MODE float32" in done.output


def test_a_device_that_is_not_there_is_exit_code_2():
    done = CliRunner().invoke(app, ["verify", "--device", "Ascend"])
    assert done.exit_code == 2
    assert "has no device Ascend here" in done.output
    assert ms.get_context("device_target") == "CPU"


def test_a_backend_that_does_not_work_is_exit_code_2(monkeypatch):
    passed_over = backends.Choice(COMPOSED, {"native": "no compiler"})
    monkeypatch.setattr(backends, "choose", lambda device: passed_over)
    done = CliRunner().invoke(app, ["verify", "--quick"])
    assert done.exit_code == 2
    assert "backend native does not work here: no compiler" in done.output
