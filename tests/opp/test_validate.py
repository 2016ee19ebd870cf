"""Each rule of the op-info check, by breaking it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

import pytest

from bn3d.opp.op_info import op_info, to_json
from bn3d.opp.support import SOCS
from bn3d.opp.validate import OpInfoError, file_name_of, problems, validate

A2 = next(soc for soc in SOCS if soc.name == "ascend910b")
APPLY = "Bn3dApply"


def broken(change: Callable[[dict], object], soc: str = "ascend910b") -> list[str]:
    info = copy.deepcopy(op_info(A2))
    change(info)
    return problems(to_json(info), soc)


def attribute(**group: str) -> Callable[[dict], None]:
    def change(info: dict) -> None:
        info[APPLY]["attr"] = {"list": "eps"}
        info[APPLY]["attr_eps"] = group

    return change


def put(path: str, value: object) -> Callable[[dict], None]:
    def change(info: dict) -> None:
        group, key = path.split(".")
        info[APPLY].setdefault(group, {})[key] = value

    return change


def drop(path: str) -> Callable[[dict], None]:
    def change(info: dict) -> None:
        group, _, key = path.partition(".")
        if key:
            del info[APPLY][group][key]
        else:
            del info[APPLY][group]

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (put("input0.name", 1), "input0.name must be a string, got 1"),
        (put("dynamicShapeSupport.flag", True), "dynamicShapeSupport.flag must be a string"),
        (put("input0.dtype", ["float16"]), "input0.dtype must be a string"),
        (put("input0.dtype", ""), "neither be empty"),
        (put("opFile.value", "bn3d_apply "), "spaces around"),
        (lambda info: info[APPLY].update(op=[]), "op must be an object of strings"),
        (lambda info: info.update({APPLY: "x"}), "must be an object"),
        (lambda info: info.update({"Bn3d Apply": info.pop(APPLY)}), "must be an identifier"),
        (drop("input0.name"), "input0.name must be an identifier, got None"),
        (put("input0.name", "x y"), "input0.name must be an identifier"),
        (put("input1.name", "x"), "2 tensors are named 'x'"),
        (put("output0.name", "x"), "2 tensors are named 'x'; the engine would compute in place"),
        (drop("input0.paramType"), "input0.paramType must be required"),
        (put("input0.paramType", "needed"), "got 'needed'"),
        (drop("input0.dtype"), "input0.dtype is missing"),
        (drop("output0.format"), "output0.format is missing"),
        (put("input1.dtype", "float32"), "all lists must have one length"),
        (put("input0.unknownshape_format", "ND,ND"), "all lists must have one length"),
        (put("input0.dtype", ",".join(["half"] * 9)), "unknown dtype 'half'"),
        (put("input0.format", ",".join(["NCDWH"] * 9)), "unknown format 'NCDWH'"),
        (put("input0.reshapeType", "XYZ"), "input0.reshapeType must be letters"),
        (put("input0.valueDepend", "yes"), "input0.valueDepend must be"),
        (put("input0.dypte", "float32"), "unknown key input0.dypte"),
        (put("opfile.value", "x"), "unknown key opfile"),
        (put("input01.name", "x"), "unknown key input01"),
        (lambda info: info[APPLY].update(input7=info[APPLY].pop("input3")), "without a gap"),
        (drop("output0"), "output0 is missing"),
        (drop("opFile"), "opFile.value is missing"),
        (put("opInterface.value", "apply"), "opInterface.value must be bn3d_apply"),
        (put("dynamicCompileStatic.flag", "True"), "must be true or false or tune, got 'True'"),
        (put("dynamicRankSupport.flag", "tune"), "dynamicRankSupport.flag must be"),
        (put("attr.list", "eps"), "attr_eps is missing"),
        (put("attr_eps.type", "float"), "attr_eps is not in attr.list"),
        (attribute(type="double", value="all", paramType="required"), "got 'double'"),
        (attribute(type="float", paramType="required"), "attr_eps.value is missing"),
        (attribute(type="float", value="all"), "or the engine drops the attribute"),
        (attribute(type="float", value="all", paramType="optional"), "have a defaultValue"),
    ],
)
def test_names_what_is_wrong(change: Callable[[dict], object], problem: str):
    assert any(problem in found for found in broken(change)), broken(change)


def test_refuses_a_combination_listed_twice():
    def change(info: dict) -> None:
        for key, group in info[APPLY].items():
            if key.startswith(("input", "output")):
                for name in ("dtype", "format"):
                    group[name] = ",".join([group[name].split(",")[0]] * 2)

    assert any("is listed 2 times" in problem for problem in broken(change))


def test_refuses_bfloat16_where_the_hardware_has_none():
    assert any(
        "ascend910 cannot convert" in problem
        for problem in problems(to_json(op_info(A2)), "ascend910")
    )


def test_refuses_a_key_given_twice():
    text = to_json(op_info(A2)).replace('"name": "offset"', '"name": "offset", "name": "offset"')
    assert problems(text, "ascend910b") == ["name is given twice"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null"])
def test_refuses_what_is_no_op_info(text: str):
    assert len(problems(text, "ascend910b")) == 1


def test_refuses_an_unknown_soc():
    assert problems(to_json(op_info(A2)), "ascend910c") == ["unknown SoC 'ascend910c'"]


def test_takes_a_sound_attribute():
    sound = attribute(type="float", value="all", paramType="optional", defaultValue="1e-5")
    assert broken(sound) == []


def test_raises_with_every_problem():
    info = op_info(A2)
    del info[APPLY]["opFile"]
    info["Bn3dReduce"]["input0"]["paramType"] = "needed"
    with pytest.raises(OpInfoError, match=r"ascend910b: .*needed.*") as caught:
        validate(json.dumps(info), "ascend910b")
    assert "opFile.value is missing" in str(caught.value)


@pytest.mark.parametrize(
    ("op_type", "name"),
    [
        ("Bn3dReduce", "bn3d_reduce"),
        ("BN3DTrainingReduce", "b_n3d_training_reduce"),
        ("Bn3DInfer", "bn3d_infer"),
        ("BatchNorm3dX", "batch_norm3d_x"),
        ("Add", "add"),
    ],
)
def test_knows_cann_s_naming_rule(op_type: str, name: str):
    assert file_name_of(op_type) == name
