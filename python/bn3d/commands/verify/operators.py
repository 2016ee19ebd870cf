"""The four operators by themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import mindspore as ms
import numpy as np
from mindspore import nn

from bn3d import reference
from bn3d.backends import Backend
from bn3d.commands.verify.check import Case, Check, compare
from bn3d.operators import OPERATORS, Operator

__all__ = ["check_operator", "rounded"]

_SUBTRACTED = {"shift", "mean"}  # inputs that an operator takes from x before all else


class _Call(nn.Cell):
    """An operator as a network of its own, for graph mode."""

    def __init__(self, operator):
        super().__init__()
        self.operator = operator

    def construct(self, *inputs):
        return self.operator(*inputs)


def check_operator(backend: Backend, operator: Operator, case: Case) -> Iterator[Check]:
    """Compare every output of an operator of a backend."""
    name = _name(operator)
    inputs = _inputs(operator, case)
    call: Callable = _Call(getattr(backend.operators, name))
    if case.mode == "PYNATIVE_MODE" and backend.compiled is not None:
        call = backend.compiled(call)
    outputs = call(
        *(
            ms.Tensor(value, getattr(ms, case.dtype if tensor.kind == "volume" else "float32"))
            for tensor, value in zip(operator.inputs, inputs, strict=True)
        )
    )
    expected = getattr(reference, name)(*inputs)
    if len(operator.outputs) == 1:
        outputs, expected = (outputs,), (expected,)
    scales = _scales(operator, inputs)
    for tensor, got, want, scale in zip(operator.outputs, outputs, expected, scales, strict=True):
        yield compare(operator.type, tensor.name, case, got, want, scale)


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """The values as MindSpore has them in a dtype, in float32 or float64."""
    tensor = ms.Tensor(values, getattr(ms, dtype))
    return (tensor.astype(ms.float32) if dtype == "bfloat16" else tensor).asnumpy()


def _inputs(operator: Operator, case: Case) -> list[np.ndarray]:
    random = np.random.default_rng([OPERATORS.index(operator), *case.shape])
    return [
        rounded(random.normal(1.0, 2.0, case.shape), case.dtype)
        if tensor.kind == "volume"
        else random.normal(0.5, 1.0, case.shape[1]).astype(np.float32)
        for tensor in operator.inputs
    ]


def _scales(operator: Operator, inputs: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """The outputs with absolute values in place of all terms, such as |x - mean| for x - mean."""
    by_name = dict(zip((tensor.name for tensor in operator.inputs), inputs, strict=True))
    for name in _SUBTRACTED & by_name.keys():
        by_name["x"] = by_name["x"] - by_name[name].reshape(1, -1, 1, 1, 1)
        by_name[name] = np.zeros_like(by_name[name])
    scales = getattr(reference, _name(operator))(*map(np.abs, by_name.values()))
    return scales if isinstance(scales, tuple) else (scales,)


def _name(operator: Operator) -> str:
    """Of its function in the reference, and of its field in a backend's operators."""
    return operator.module.removeprefix("bn3d_")
