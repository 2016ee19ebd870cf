"""Op-info: the JSON from which CANN's fusion engine learns a SoC's operators.

Every value is a string. The dtype and format of a tensor are comma lists, and column k of all
lists together is one supported combination. A vector carries its volume's format: from
(C,) of origin format NCDHW the engine makes (1, 1, C1, 1, 1, C0) for an NDC1HWC0 column, and
leaves it (C,) for ND.
"""

from __future__ import annotations

import json

from ..operators import OPERATORS, Operator, Tensor
from .support import FORMATS, Soc

__all__ = ["file_name", "op_info", "to_json"]


def op_info(soc: Soc, operators: tuple[Operator, ...] = OPERATORS) -> dict[str, dict]:
    """{operator type: {key: {sub-key: string}}} of every operator on `soc`."""
    return {operator.type: _entry(operator, soc) for operator in operators}


def file_name(soc: Soc) -> str:
    return f"aic-{soc.name}-ops-info.json"


def to_json(info: dict[str, dict]) -> str:
    return json.dumps(info, indent=4, sort_keys=True) + "\n"


def _entry(operator: Operator, soc: Soc) -> dict[str, dict[str, str]]:
    columns = [(dtype, format) for format in FORMATS for dtype in soc.dtypes]
    entry = {
        "opFile": {"value": operator.module},
        "opInterface": {"value": operator.module},
        "dynamicCompileStatic": {"flag": _flag(soc.dynamic_compiles_static)},
        # The sources in dynamic/ take unknown dimensions, but not an unknown rank.
        "dynamicShapeSupport": {"flag": "true"},
        "dynamicRankSupport": {"flag": "false"},
        # Mixed precision is not to give float16 to an operator that sums over a whole volume.
        "precision_reduce": {"flag": "false"},
    }
    for kind, tensors in (("input", operator.inputs), ("output", operator.outputs)):
        for index, tensor in enumerate(tensors):
            entry[f"{kind}{index}"] = _tensor(tensor, columns)
    return entry


def _tensor(tensor: Tensor, columns: list[tuple[str, str]]) -> dict[str, str]:
    dtypes = [dtype if tensor.kind == "volume" else "float32" for dtype, _ in columns]
    return {
        "name": tensor.name,
        "paramType": "required",
        "dtype": ",".join(dtypes),
        "format": ",".join(format for _, format in columns),
    }


def _flag(value: bool) -> str:
    return "true" if value else "false"
