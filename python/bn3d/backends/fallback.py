"""Which volumes the operators of a backend do not compute, found by running them once.

CANN compiles an operator when a volume of a new shape arrives, and may refuse. So the operators
run once, on zeros, for each new shape and dtype. Where one fails, a warning says so and MindSpore's
own operators compute such volumes from then on.

In PyNative mode a layer asks before its first volume. A graph only notes what it meets as it is
compiled: MindSpore 2.10 ends with a segmentation fault where a graph is compiled within another.
That is tried when the compilation is over, before the graph runs; if an operator fails, the graph
is compiled once more.

A trial runs on the engine of what asks. Kernel by kernel and in the graph engine an operator goes
through other parts of CANN, and may fail in one of them alone.
"""

from __future__ import annotations

import logging

import mindspore as ms
from mindspore import nn, ops

from bn3d.backends.backend import Operators
from bn3d.mindspore_private.compilations import Engine, recompile_if
from bn3d.operators import OPERATORS, Operator

__all__ = ["FALLBACKS", "KERNEL_BY_KERNEL", "NO_VALUES", "build", "failure"]

KERNEL_BY_KERNEL: Engine = (("jit_level", "O0"), ("backend", "ms_backend"))
"""Of PyNative mode, where the Ascend backend compiles a layer with it."""

_Volume = tuple[tuple[int, ...], str]

FALLBACKS: dict[_Volume, str] = {}
"""Why MindSpore's operators compute volumes of a shape and dtype, all backends together."""

# What a graph met as it was compiled: operators, volume, what they tried.
_met_in_graphs: list[tuple[Operators, _Volume, set[tuple[_Volume, Engine]]]] = []

_logger = logging.getLogger("bn3d")


class _Call(nn.Cell):
    """An operator as a network of its own."""

    def __init__(self, operator, engine):
        super().__init__(auto_prefix=False)
        self.operator = operator
        self.set_jit_config(ms.JitConfig(**dict(engine)))

    def construct(self, *inputs):
        return self.operator(*inputs)


def failure(
    operators: Operators, operator: Operator, shape: tuple[int, ...], dtype: str, engine: Engine
) -> str | None:
    """Run one of the operators on zeros: the first line of its error, None if it has none.

    Args:
        operators: of a backend.
        operator: which one.
        shape: (N, C, D, H, W).
        dtype: of the volumes, such as "float16".
        engine: that runs it, such as `KERNEL_BY_KERNEL`.
    """
    call = _Call(getattr(operators, operator.module.removeprefix("bn3d_")), engine)
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
    tried: set[tuple[_Volume, Engine]] = set()

    @ops.constexpr(get_instance=False, reuse_result=False, check=False)
    def is_known(shape: tuple[int, ...] | None, dtype: ms.Type) -> bool:
        if shape is None:
            return False
        volume = tuple(shape), _name(dtype)
        if volume not in FALLBACKS:
            _met_in_graphs.append((operators, volume, tried))
        return volume in FALLBACKS

    # mypy takes no decorated function for a base class, whatever the decorator returns.
    class IsNeeded(is_known):  # type: ignore[valid-type, misc]
        def __call__(self, shape: tuple[int, ...], dtype: ms.Type) -> bool:
            volume = tuple(shape), _name(dtype)
            _try(operators, volume, KERNEL_BY_KERNEL, tried)
            return volume in FALLBACKS

    recompile_if(_one_of_those_met_fails)
    return IsNeeded()


def _one_of_those_met_fails(engine: Engine) -> bool:
    """Of the volumes that graphs have met since the last time."""
    met = [_met_in_graphs.pop(0) for _ in range(len(_met_in_graphs))]
    for operators, volume, tried in met:
        _try(operators, volume, engine, tried)
    return any(volume in FALLBACKS for _, volume, _ in met)


def _try(
    operators: Operators, volume: _Volume, engine: Engine, tried: set[tuple[_Volume, Engine]]
) -> None:
    if (volume, engine) in tried or volume in FALLBACKS:
        return
    tried.add((volume, engine))
    shape, dtype = volume
    for operator in OPERATORS:
        reason = failure(operators, operator, shape, dtype, engine)
        if reason is not None:
            FALLBACKS[volume] = f"{operator.type}: {reason}"
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
