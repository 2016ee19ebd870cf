"""The four operators of bn3d: the one table of their names, order, types and formats.

Every backend is registered or checked against this table: the NumPy judge
(`bn3d.reference`), the TBE sources and their op-info, the GE prototypes and the
`ops.Custom` registrations.

None of the operators has an attribute: MindSpore's kernel-by-kernel path on Ascend
passes none to the device, so eps, momentum and counts stay in per-channel vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["OPERATORS", "Operator", "Tensor"]


@dataclass(frozen=True)
class Tensor:
    """An input or output of an operator.

    Attributes:
        name: as CANN, GE and MindSpore spell it.
        kind: "volume" is (N, C, D, H, W) in the activation's dtype; "channel" is one
            float32 value a channel, shape (C,).
    """

    name: str
    kind: Literal["volume", "channel"]


@dataclass(frozen=True)
class Operator:
    """An operator's signature. `module` is the type in snake case: the file that implements it."""

    type: str
    module: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def _volumes(*names: str) -> tuple[Tensor, ...]:
    return tuple(Tensor(name, "volume") for name in names)


def _channels(*names: str) -> tuple[Tensor, ...]:
    return tuple(Tensor(name, "channel") for name in names)


OPERATORS: tuple[Operator, ...] = (
    Operator(
        "Bn3dReduce",
        "bn3d_reduce",
        _volumes("x") + _channels("shift"),
        _channels("sum", "square_sum"),
    ),
    Operator(
        "Bn3dApply",
        "bn3d_apply",
        _volumes("x") + _channels("mean", "multiplier", "offset"),
        _volumes("y"),
    ),
    Operator(
        "Bn3dGradReduce",
        "bn3d_grad_reduce",
        _volumes("dy", "x") + _channels("mean"),
        _channels("sum_dy", "sum_dy_centered"),
    ),
    Operator(
        "Bn3dGradApply",
        "bn3d_grad_apply",
        _volumes("dy", "x") + _channels("mean", "a", "b", "c"),
        _volumes("dx"),
    ),
)
