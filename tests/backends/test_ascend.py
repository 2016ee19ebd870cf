"""Registration and choice with a faked device target, in processes of their own; no device."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bn3d.operators import OPERATORS
from bn3d.opp.installer import install
from bn3d.opp.payload import Package
from opp.conftest import VERSION_INFO, cann, run_file, sources  # noqa: F401 - fixtures

SCRIPT = Path(__file__).with_name("faked_ascend.py")


@pytest.fixture(scope="module")
def toolkit(tmp_path_factory) -> Path:
    """The least of a CANN that `mindspore.ops.Custom` and the installer need."""
    root = tmp_path_factory.mktemp("toolkit")
    (root / "opp" / "built-in").mkdir(parents=True)
    (root / "compiler").mkdir()
    (root / "compiler" / "version.info").write_text(VERSION_INFO)
    (root / "include" / "acl").mkdir(parents=True)
    header = "#pragma once\n#include <cstddef>\n#include <cstdint>\n"
    (root / "include" / "acl" / "acl_base.h").write_text(header)
    # What CANN's compiler imports and this environment has not.
    (root / "python").mkdir()
    for module in ("decorator", "sympy", "attr"):
        if importlib.util.find_spec(module) is None:
            (root / "python" / f"{module}.py").touch()
    return root


def run(what: str, directory: Path, **variables: str):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ASCEND_", "BN3D_"))}
    environment.update(MS_COMPILER_CACHE_PATH=str(directory), GLOG_v="4", **variables)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), what],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def primitives(toolkit, tmp_path_factory):
    directory = tmp_path_factory.mktemp("primitives")
    return run("primitives", directory, ASCEND_OPP_PATH=str(toolkit / "opp"))


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.type)
def test_what_mindspore_reads_of_an_operator(primitives, operator):
    found = primitives[operator.module.removeprefix("bn3d_")]
    attributes = found["attributes"]
    assert (found["func"], found["func_type"]) == (operator.type, "aot")
    # The name and the order by which CANN finds the operator and its inputs.
    assert attributes["reg_op_name"] == operator.type
    assert attributes["pure_input_names"] == [tensor.name for tensor in operator.inputs]
    assert attributes["output_names"] == [tensor.name for tensor in operator.outputs]
    assert attributes["custom_aclop"] is True
    assert attributes["acl_op_jit_compile"] is True
    assert attributes["io_format"] == "NCDHW"
    assert attributes["_keep_dtype"] == 1 and attributes["_keep_dtype"] is not True
    # MindSpore 2.7.0 would make an input of each.
    assert found["registration"]["attr"] == []
    assert found["registration"]["target"] == "Ascend"


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.type)
def test_dtypes_formats_and_shapes_of_an_operator(primitives, operator):
    found = primitives[operator.module.removeprefix("bn3d_")]
    tensors = (*operator.inputs, *operator.outputs)
    assert found["registration"]["dtype_format"] == [
        [[dtype if t.kind == "volume" else "float32", "DefaultFormat"] for t in tensors]
        for dtype in ("float16", "float32", "bfloat16")
    ]
    shapes, dtypes = found["shapes"], found["dtypes"]
    if len(operator.outputs) == 1:
        shapes, dtypes = [shapes], [dtypes]
    for tensor, shape, dtype in zip(operator.outputs, shapes, dtypes, strict=True):
        volume = tensor.kind == "volume"
        assert shape == ([2, 3, 4, 5, 6] if volume else [3])
        assert dtype == ("Float16" if volume else "Float32")


def test_without_cann_one_warning_says_what_to_do(tmp_path):
    choice = run("choice", tmp_path)
    assert choice["name"] == "composed"
    assert list(choice["passed_over"]) == ["ascend"]
    (warning,) = choice["warnings"]
    assert "computes with its composed backend" in warning
    assert "ASCEND_OPP_PATH is not set: source CANN's set_env.sh" in warning


def test_asked_for_and_not_there_is_an_error(tmp_path, toolkit):
    opp = str(toolkit / "opp")
    choice = run("choice", tmp_path, BN3D_BACKEND="ascend", ASCEND_OPP_PATH=opp)
    assert choice["error"].startswith("BN3D_BACKEND=ascend, but this backend does not work here")
    assert "run `bn3d opp install`" in choice["error"]


def test_native_is_no_choice_on_ascend(tmp_path):
    choice = run("choice", tmp_path, BN3D_BACKEND="native")
    assert "it needs the device target CPU, this one is Ascend" in choice["error"]


def test_with_the_package_installed_it_is_chosen(tmp_path, toolkit, run_file, monkeypatch):  # noqa: F811
    opp = toolkit / "opp"
    monkeypatch.setenv("ASCEND_OPP_PATH", str(opp))
    monkeypatch.setenv("ASCEND_HOME_PATH", str(toolkit))
    monkeypatch.delenv("ASCEND_CUSTOM_OPP_PATH", raising=False)
    install(Package.open(run_file))
    path = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(toolkit / "python")])
    home = {"ASCEND_OPP_PATH": str(opp), "ASCEND_HOME_PATH": str(toolkit), "PYTHONPATH": path}
    assert run("choice", tmp_path, **home) == {"name": "ascend", "passed_over": {}, "warnings": []}
