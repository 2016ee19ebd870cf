"""A strict check of op-info: the rules of CANN's packager, its engine and its offline compiler.

The engine drops the whole file, built by hand or not, for one malformed operator, and says so only
in its log; hence nothing is packaged that has a problem.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator

from .support import SOCS

__all__ = ["OpInfoError", "file_name_of", "problems", "validate"]

DTYPES = frozenset(
    {"float16", "float", "float32", "bfloat16", "double", "bool", "string", "resource"}
    | {"int4", "int8", "int16", "int32", "int64", "uint1", "uint8", "uint16", "uint32", "uint64"}
    | {"complex32", "complex64", "complex128"}
)
FORMATS = frozenset(
    {"ND", "NCHW", "NHWC", "HWCN", "NC1HWC0", "NCDHW", "NDHWC", "DHWCN", "NDC1HWC0", "NULL"}
    | {"FRACTAL_Z", "FRACTAL_Z_3D", "FRACTAL_NZ", "C1HWNCoC0"}
)
BFLOAT16_SOCS = frozenset({"ascend910b", "ascend910_93"})
ATTR_TYPES = frozenset(
    ["int", "float", "bool", "str", "listInt", "listFloat", "listBool", "listStr", "listListInt"]
)  # what the engine reads; it ignores an attribute of any other type

_BOOLEAN = ("true", "false")
_FLAGS = {
    "dynamicCompileStatic": (*_BOOLEAN, "tune"),
    "dynamicFormat": _BOOLEAN,
    "dynamicRankSupport": (*_BOOLEAN, "upgrade_to_dynamic_rank"),
    "dynamicShapeSupport": _BOOLEAN,
    "enableVectorCore": _BOOLEAN,
    "heavyOp": _BOOLEAN,
    "needCheckSupport": _BOOLEAN,
    "precision_reduce": _BOOLEAN,
}
_VALUES = ("coreType", "opFile", "opInterface", "slicePattern")
_TENSOR_KEYS = frozenset(
    ["name", "paramType", "dtype", "format", "unknownshape_format", "reshapeType", "valueDepend"]
)
_ATTR_KEYS = frozenset({"type", "value", "paramType", "defaultValue"})
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_TENSOR = re.compile(r"(input|output)(0|[1-9][0-9]*)\Z")


class OpInfoError(ValueError):
    """Op-info that CANN would refuse or misread; the message lists every problem."""


def validate(text: str, soc: str) -> None:
    """Check the op-info file `text` of `soc`, such as "ascend910b".

    Raises:
        OpInfoError: with every problem found.
    """
    found = problems(text, soc)
    if found:
        raise OpInfoError(f"op-info of {soc}: " + "; ".join(found))


def problems(text: str, soc: str) -> list[str]:
    """What is wrong with the op-info file `text` of `soc`, nothing if it is right."""
    duplicates: list[str] = []

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        counts = Counter(key for key, _ in items)
        duplicates.extend(f"{key} is given twice" for key, n in counts.items() if n > 1)
        return dict(items)

    if soc not in {known.name for known in SOCS}:
        return [f"unknown SoC {soc!r}"]
    try:
        info = json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        return [f"not JSON: {error}"]
    if not isinstance(info, dict) or not info:
        return ["must be an object with one entry an operator"]
    found = list(duplicates)
    for op_type, entry in info.items():
        found += [f"{op_type}: {problem}" for problem in _operator(op_type, entry, soc)]
    return found


def file_name_of(op_type: str) -> str:
    """The module and function CANN expects for an operator type: Bn3dReduce -> bn3d_reduce.

    An underscore goes before an upper-case letter that a lower-case one follows, and before any
    other one too unless it continues a run of digits and upper-case letters; the first letter
    begins no run: BN3DReduce would be b_n3d_reduce.
    """
    name = ""
    for i, letter in enumerate(op_type):
        if i and letter.isupper():
            before, after = op_type[i - 1], op_type[i + 1 : i + 2]
            in_run = before.isdigit() or (before.isupper() and i > 1)
            if after.islower() or not in_run:
                name += "_"
        name += letter.lower()
    return name


def _operator(op_type: str, entry: object, soc: str) -> Iterator[str]:
    if not _IDENTIFIER.match(op_type):
        yield "the operator type must be an identifier"
    if not isinstance(entry, dict):
        yield "must be an object"
        return
    malformed = list(_leaves(entry))
    if malformed:
        yield from malformed
        return
    yield from _groups(entry)
    tensors = {key: group for key, group in entry.items() if _TENSOR.match(key)}
    yield from _numbering(tensors)
    for key, group in tensors.items():
        yield from _tensor(key, group, soc, dynamic="dynamicFormat" in entry)
    yield from _columns(tensors)
    yield from _attributes(entry)
    for key in ("opFile", "opInterface"):
        if key not in entry:
            yield f"{key}.value is missing"
        elif entry[key].get("value") != file_name_of(op_type):
            yield (
                f"{key}.value must be {file_name_of(op_type)}, which CANN's offline compiler "
                f"expects for {op_type}, got {entry[key].get('value')!r}"
            )


def _leaves(entry: dict) -> Iterator[str]:
    for key, group in entry.items():
        if not isinstance(group, dict) or not group:
            yield f"{key} must be an object of strings, got {group!r}"
            continue
        for name, value in group.items():
            if not isinstance(value, str):
                yield f"{key}.{name} must be a string, got {value!r}"
            elif value != value.strip() or not value:
                yield f"{key}.{name} must neither be empty nor have spaces around, got {value!r}"


def _groups(entry: dict) -> Iterator[str]:
    for key, group in entry.items():
        if _TENSOR.match(key):
            known: frozenset[str] = _TENSOR_KEYS
        elif key in _FLAGS:
            known = frozenset({"flag"})
            if group.get("flag") not in _FLAGS[key]:
                yield f"{key}.flag must be {' or '.join(_FLAGS[key])}, got {group.get('flag')!r}"
        elif key in _VALUES:
            known = frozenset({"value"})
        elif key == "attr":
            known = frozenset({"list"})
        elif key.startswith("attr_"):
            known = _ATTR_KEYS
        elif key == "op":
            known = frozenset({"pattern"})
        else:
            yield f"unknown key {key}"
            continue
        for name in group.keys() - known:
            yield f"unknown key {key}.{name}"


def _numbering(tensors: dict[str, dict]) -> Iterator[str]:
    for kind in ("input", "output"):
        numbers = sorted(int(key[len(kind) :]) for key in tensors if key.startswith(kind))
        if numbers != list(range(len(numbers))):
            yield f"{kind}s must be numbered from 0 without a gap, got {numbers}"
        if not numbers:
            yield f"{kind}0 is missing"
    counts = Counter(group.get("name") for group in tensors.values())
    for name, count in counts.items():
        if count > 1:
            yield f"{count} tensors are named {name!r}; the engine would compute in place"


def _tensor(key: str, group: dict, soc: str, dynamic: bool) -> Iterator[str]:
    if not _IDENTIFIER.match(group.get("name", "")):
        yield f"{key}.name must be an identifier, got {group.get('name')!r}"
    if group.get("paramType") not in ("required", "optional", "dynamic"):
        yield (
            f"{key}.paramType must be required, optional or dynamic, got {group.get('paramType')!r}"
        )
    if "valueDepend" in group and group["valueDepend"] not in ("required", "optional"):
        yield f"{key}.valueDepend must be required or optional, got {group['valueDepend']!r}"
    if "reshapeType" in group and not re.match(r"([NCDHW]+|FORBIDDEN)\Z", group["reshapeType"]):
        yield f"{key}.reshapeType must be letters of NCDHW, got {group['reshapeType']!r}"
    for name, known in (("dtype", DTYPES), ("format", FORMATS), ("unknownshape_format", FORMATS)):
        if name not in group:
            if name != "unknownshape_format" and not dynamic:
                yield f"{key}.{name} is missing"
            continue
        for item in group[name].split(","):
            if item not in known:
                yield f"{key}.{name} has an unknown {name} {item!r}"
            if item == "bfloat16" and soc not in BFLOAT16_SOCS:
                yield f"{key}.dtype has bfloat16, which {soc} cannot convert"


def _columns(tensors: dict[str, dict]) -> Iterator[str]:
    names = ("dtype", "format", "unknownshape_format")
    lists = {
        f"{key}.{name}": group[name].split(",")
        for key, group in tensors.items()
        for name in names
        if name in group
    }
    lengths = {key: len(items) for key, items in lists.items()}
    if len(set(lengths.values())) > 1:
        yield f"all lists must have one length, got {lengths}"
        return
    counts = Counter(zip(*lists.values(), strict=True))
    for column, count in counts.items():
        if count > 1:
            yield f"the combination {column} is listed {count} times"


def _attributes(entry: dict) -> Iterator[str]:
    listed = entry.get("attr", {}).get("list", "")
    names = listed.split(",") if listed else []
    for key in entry:
        if key.startswith("attr_") and key[len("attr_") :] not in names:
            yield f"{key} is not in attr.list"
    for name, count in Counter(names).items():
        if count > 1:
            yield f"attr.list has {name!r} {count} times"
        group = entry.get(f"attr_{name}")
        if group is None:
            yield f"attr_{name} is missing"
            continue
        if group.get("type") not in ATTR_TYPES:
            yield f"attr_{name}.type must be one of {sorted(ATTR_TYPES)}, got {group.get('type')!r}"
        if "value" not in group:
            yield f"attr_{name}.value is missing"
        if group.get("paramType") not in ("required", "optional"):
            yield (
                f"attr_{name}.paramType must be required or optional, or the engine drops the "
                f"attribute, got {group.get('paramType')!r}"
            )
        if group.get("paramType") == "optional" and "defaultValue" not in group:
            yield f"attr_{name} is optional and must have a defaultValue"
