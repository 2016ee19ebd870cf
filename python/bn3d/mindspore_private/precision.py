"""Mixed precision: what it asks of a layer, and how a backend stays outside of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import mindspore as ms
from mindspore import Tensor, nn, ops

from bn3d.mindspore_private.execution import is_compiling
from bn3d.mindspore_private.names import ask

__all__ = [
    "as_asked",
    "is_mixed",
    "is_rewritten",
    "keep_in_rewrites",
    "leave",
    "unmixed",
    "unmixed_call",
    "unwrapped",
]

_Type = ask(
    "mindspore._c_expression.MixedPrecisionType",
    "in PyNative mode a layer under to_float computes in that dtype throughout",
)
_get_curr_amp_strategy = ask(
    "mindspore._c_expression.amp.get_curr_amp_strategy",
    'in PyNative mode amp level "auto" does not compute layers in float32',
)
_rewrites = ask("mindspore.rewrite.common.namespace", "amp level O1 rewrites layers, and may fail")

_DTYPES = (
    {}
    if _Type is None
    else {_Type.FP16: ms.float16, _Type.BF16: ms.bfloat16, _Type.FP32: ms.float32}
)


def as_asked(cell: nn.Cell, x: Tensor) -> Tensor:
    """What PyNative mode is to compute a BatchNorm with in mixed precision: x, or a cast of it.

    `Cell.to_float` casts what operators get, but a backend keeps its own out of that. Level "auto"
    of `amp` computes BatchNorm in float32, and our operators are not on its list.
    """
    asked = _DTYPES.get(cell.mixed_precision_type)
    if asked is not None:
        x = ops.cast(x, asked)
    if x.dtype in (ms.float16, ms.bfloat16) and _is_widening():
        x = ops.cast(x, ms.float32)
    return x


def is_mixed(cell: nn.Cell) -> bool:
    """Whether `Cell.to_float` set something."""
    return cell.mixed_precision_type is not None


def leave(cell: nn.Cell) -> None:
    """Let MindSpore leave the precision of a cell that raised: it would keep to it for ever."""
    if is_mixed(cell):
        cell._call_post_process(None)


def unwrapped(cell: nn.Cell) -> nn.Cell:
    """The cell itself where `amp` has put another around it, which casts what it returns, because
    it is on its black list.
    """
    if isinstance(cell, nn.BatchNorm2d):
        return cell
    return getattr(cell, "_backbone", cell)


def _is_widening() -> bool:
    strategy = None if _get_curr_amp_strategy is None else _get_curr_amp_strategy()
    return strategy is not None and any(
        operator == "BatchNorm" for operator, _ in strategy.get_black_list()
    )


def keep_in_rewrites(cls: type[nn.Cell]) -> None:
    """Let `mindspore.rewrite`, and so `amp` level O1, call cells of this class as they are.

    It would rewrite a class that has the name of its base class, and fail.
    """
    if _rewrites is not None:
        _rewrites._subtree_black_list.append(cls)


def is_rewritten(cls: type) -> bool:
    """Whether `mindspore.rewrite` wrote the class, as `amp` level O1 does, into a file."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return file is not None and Path(file).parent.name == "rewritten_network"


class _Unmixed(nn.Cell):
    """Calls a function outside of the caller's mixed precision."""

    def __init__(self, function):
        super().__init__(auto_prefix=False)
        self.function = function
        if _Type is not None:
            self.mixed_precision_type = _Type.NOTSET

    def construct(self, *arguments):
        return self.function(*arguments)


def unmixed_call(function: Callable) -> Callable:
    """A function of tensors, outside of the caller's mixed precision; in PyNative mode only."""
    return _Unmixed(function)


def unmixed(forward: Callable) -> Callable:
    """A backend's `forward_training` or `forward_inference`, out of reach of `to_float`.

    In PyNative mode a layer under `to_float` casts the floating inputs of all operators that it
    calls, also channel vectors: sums over a volume overflow in float16. Graph mode casts a
    layer's inputs alone.
    """
    cell = _Unmixed(forward)

    def either(x, gamma, beta, moving_mean, moving_variance, settings):
        if is_compiling():
            return forward(x, gamma, beta, moving_mean, moving_variance, settings)
        return cell(x, gamma, beta, moving_mean, moving_variance, settings)

    return either
