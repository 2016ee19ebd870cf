"""Which volumes the operators of a backend do not compute, found by running them once.

CANN compiles an operator when a volume of a new shape arrives, and may refuse. In PyNative mode a
layer asks before its first volume of a shape and dtype: the operators run once, on zeros. Where one
fails, a warning says so and MindSpore's own operators compute such volumes from then on. In graph
mode what is known by then counts, and nothing is tried: MindSpore 2.10 ends with a segmentation
fault where a graph is compiled while another one is.
"""

from __future__ import annotations

import logging

import mindspore as ms
from mindspore import nn, ops

from bn3d.backends.backend import Operators
from bn3d.operators import OPERATORS, Operator

__all__ = ["FALLBACKS", "NO_VALUES", "build", "failure"]

FALLBACKS: dict[tuple[tuple[int, ...], str], str] = {}
"""Why MindSpore's operators compute volumes of a shape and dtype, all backends together."""

_logger = logging.getLogger("bn3d")


class _Call(nn.Cell):
    """An operator as a network of its own."""

    def __init__(self, operator):
        super().__init__(auto_prefix=False)
        self.operator = operator

    def construct(self, *inputs):
        return self.operator(*inputs)


def failure(
    operators: Operators, operator: Operator, shape: tuple[int, ...], dtype: str
) -> str | None:
    """Run one of the operators on zeros: the first line of its error, None if it has none.

    Args:
        operators: of a backend.
        operator: which one.
        shape: (N, C, D, H, W).
        dtype: of the volumes, such as "float16".
    """
    call = _Call(getattr(operators, operator.module.removeprefix("bn3d_")))
    try:
        inputs = [
            ops.zeros(shape, getattr(ms, dtype))
            if tensor.kind == "volume"
            else ops.zeros(shape[1], ms.float32)
            for tensor in operator.inputs
        ]
        # Not by `mindspore.jit`: its errors make PyNative mode forget what it has recorded for the
        # gradient that the caller may be about to take.
        outputs = call.compile_and_run(*inputs)
        for output in outputs if isinstance(outputs, tuple | list) else (outputs,):
            output.astype(ms.float32).asnumpy()  # errors of a device arrive with its results
    except Exception as error:  # whatever it is, training goes on
        return str(error).strip().partition("\n")[0] or repr(error)
    return None


def build(operators: Operators) -> ops.Primitive:
    """A function (shape, dtype) -> whether MindSpore's own operators have to compute such volumes.

    shape is (N, C, D, H, W) without a 0, or of unknown sizes, for which the answer is False; dtype
    is one of MindSpore's. It may be called in graphs, too.
    """
    tried = set()

    @ops.constexpr(get_instance=False, reuse_result=False, check=False)
    def is_known(shape: tuple[int, ...] | None, dtype: ms.Type) -> bool:
        return shape is not None and (tuple(shape), _name(dtype)) in FALLBACKS

    # mypy takes no decorated function for a base class, whatever the decorator returns.
    class IsNeeded(is_known):  # type: ignore[valid-type, misc]
        def __call__(self, shape: tuple[int, ...], dtype: ms.Type) -> bool:
            key = tuple(shape), _name(dtype)
            if key not in tried and key not in FALLBACKS:
                tried.add(key)
                _try(operators, *key)
            return key in FALLBACKS

    return IsNeeded()


def _try(operators: Operators, shape: tuple[int, ...], dtype: str) -> None:
    for operator in OPERATORS:
        reason = failure(operators, operator, shape, dtype)
        if reason is not None:
            FALLBACKS[shape, dtype] = f"{operator.type}: {reason}"
            _logger.warning(
                "bn3d computes volumes %s of %s with MindSpore's own operators, which is slower, "
                "because an operator of its package fails there: %s: %s",
                shape,
                dtype,
                operator.type,
                reason,
            )
            return


def _name(dtype: ms.Type) -> str:
    return str(dtype).lower()


# Primitives: MindSpore 2.10 loses a Python function that two passes of a gradient both call.
_zeros_like = ops.ZerosLike()
_depend = ops.Depend()


def _no_sums(x, shift):
    return _zeros_like(shift), _zeros_like(shift)


# A graph leaves out what no result depends on. The group would wait for the collectives of this
# device in vain, so their results are passed through.


def _no_volume(x, mean, multiplier, offset):
    return _depend(x, offset)


def _no_gradient_sums(dy, x, mean):
    return _zeros_like(mean), _zeros_like(mean)


def _no_gradient(dy, x, mean, a, b, c):
    return _depend(dy, c)


# The operators for a batch without values.
NO_VALUES = Operators(_no_sums, _no_volume, _no_gradient_sums, _no_gradient)
