"""The op-info, and that the four places which name the operators agree.

`goldens/` has what CANN gets to read. Whoever changes it looks at the difference: for one malformed
operator the engine drops the whole file, and says so in its log only.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from bn3d.operators import OPERATORS, Operator
from bn3d.opp.op_info import file_name, op_info, to_json
from bn3d.opp.support import SOCS, Soc

from .conftest import REPOSITORY

GOLDENS = Path(__file__).parent / "goldens"
TBE = REPOSITORY / "op_impl" / "ai_core" / "tbe" / "bn3d_impl"
BY_NAME = {soc.name: soc for soc in SOCS}
socs = pytest.mark.parametrize("soc", SOCS, ids=lambda soc: soc.name)
operators = pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.type)


def columns(entry: dict, key: str) -> list[tuple[str, str]]:
    return list(zip(entry[key]["dtype"].split(","), entry[key]["format"].split(","), strict=True))


@socs
def test_is_the_golden_file(soc: Soc):
    assert to_json(op_info(soc)) == (GOLDENS / file_name(soc)).read_text()


@pytest.mark.parametrize("path", sorted(GOLDENS.iterdir()), ids=lambda path: path.name)
def test_the_golden_files_keep_to_cann_s_rules(path: Path):
    """Those of its packager and its fusion engine that concern what ours have in them."""
    socs = {file_name(soc): soc for soc in SOCS}
    for op_type, entry in json.loads(path.read_text(), object_pairs_hook=once).items():
        assert all(isinstance(leaf, str) and leaf for group in entry.values() for leaf in group)
        assert all(isinstance(leaf, str) for group in entry.values() for leaf in group.values())
        flags = {group["flag"] for group in entry.values() if "flag" in group}
        assert flags <= {"true", "false"}
        tensors = [key for key in entry if re.fullmatch(r"(in|out)put\d", key)]
        combinations = list(zip(*(columns(entry, key) for key in tensors), strict=True))
        assert len(set(combinations)) == len(combinations)  # none twice
        assert {entry[key]["paramType"] for key in tensors} == {"required"}
        dtypes = {dtype for combination in combinations for dtype, _ in combination}
        assert dtypes == {*socs[path.name].dtypes, "float32"}
        # The offline compiler takes nothing else.
        assert entry["opFile"] == entry["opInterface"] == {"value": file_name_of(op_type)}


def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def file_name_of(op_type: str) -> str:
    """The module and function that CANN expects for an operator type without runs of capitals."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Za-z])(?=[A-Z][a-z])", "_", op_type).lower()


@pytest.mark.parametrize(
    ("soc", "dtypes"),
    [
        ("ascend910", ["float16", "float32"]),
        ("ascend910b", ["float16", "float32", "bfloat16"]),
        ("ascend910_93", ["float16", "float32", "bfloat16"]),
    ],
)
@operators
def test_every_dtype_comes_in_every_format(soc: str, dtypes: list[str], operator: Operator):
    entry = op_info(BY_NAME[soc])[operator.type]
    wanted = {(dtype, format) for dtype in dtypes for format in ("NDC1HWC0", "NCDHW", "ND")}
    for kind, tensors in (("input", operator.inputs), ("output", operator.outputs)):
        for index, tensor in enumerate(tensors):
            found = columns(entry, f"{kind}{index}")
            assert entry[f"{kind}{index}"]["name"] == tensor.name
            assert len(found) == len(wanted)
            if tensor.kind == "volume":
                assert set(found) == wanted
            else:
                assert {dtype for dtype, _ in found} == {"float32"}


@socs
@operators
def test_a_column_has_one_format_and_one_dtype_of_volumes(soc: Soc, operator: Operator):
    entry = op_info(soc)[operator.type]
    volumes = [i for i, tensor in enumerate(operator.inputs) if tensor.kind == "volume"]
    tensors = [key for key in entry if key.startswith(("input", "output")) and key[-1].isdigit()]
    for column in zip(*(columns(entry, key) for key in tensors), strict=True):
        assert len({format for _, format in column}) == 1
        assert len({column[i][0] for i in volumes}) == 1


def test_only_the_first_generation_has_static_sources_for_static_shapes():
    flags = {soc.name: op_info(soc)["Bn3dReduce"]["dynamicCompileStatic"]["flag"] for soc in SOCS}
    assert flags.pop("ascend910") == "false"
    assert set(flags.values()) == {"true"}


@socs
@operators
def test_mixed_precision_leaves_the_dtypes_alone(soc: Soc, operator: Operator):
    assert op_info(soc)[operator.type]["precision_reduce"]["flag"] == "false"


@socs
@operators
def test_takes_unknown_dimensions_but_no_unknown_rank(soc: Soc, operator: Operator):
    entry = op_info(soc)[operator.type]
    assert entry["dynamicShapeSupport"]["flag"] == "true"
    assert entry["dynamicRankSupport"]["flag"] == "false"


@socs
def test_is_named_by_its_directory(soc: Soc):
    assert file_name(soc) == f"aic-{soc.name}-ops-info.json"
    assert list(json.loads(to_json(op_info(soc)))) == sorted(o.type for o in OPERATORS)


@operators
def test_the_table_follows_the_naming_rule(operator: Operator):
    assert operator.module == file_name_of(operator.type)


def tbe_module(name: str) -> list[ast.stmt]:
    return ast.parse((TBE / name).read_text()).body


@operators
def test_the_tbe_function_takes_what_the_table_says(operator: Operator):
    """That REG_OP does is tested in test_op_proto.py, on the compiled library."""
    body = tbe_module(f"{operator.module}.py")
    functions = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
    arguments = functions[operator.module].args
    names = [tensor.name for tensor in operator.inputs + operator.outputs]
    assert [argument.arg for argument in arguments.args] == [*names, "kernel_name"]
    (default,) = arguments.defaults
    assert ast.literal_eval(default) == operator.module


@operators
def test_the_tbe_function_for_dynamic_is_registered_by_its_type(operator: Operator):
    body = tbe_module(f"dynamic/{operator.module}.py")
    calls = [node for top in body for node in ast.walk(top) if isinstance(node, ast.Call)]
    registered = [
        ast.literal_eval(call.args[0])
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "register_operator"
    ]
    defined = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    for node in body:
        if isinstance(node, ast.Assign):
            defined |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    assert registered == [operator.type]
    assert operator.module in defined
