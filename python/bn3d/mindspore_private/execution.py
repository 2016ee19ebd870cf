"""What MindSpore is doing right now, as far as a layer has to know it.

MindSpore offers no question for most of it, so the answer is in who called, or in what calls.
"""

from __future__ import annotations

import sys

import mindspore as ms
from mindspore import nn, ops
from mindspore._c_expression import MixedPrecisionType
from mindspore._c_expression.amp import get_curr_amp_strategy
from mindspore.common.api import _pynative_executor
from mindspore.communication import GlobalComm, get_group_size
from mindspore.rewrite.common import namespace

__all__ = [
    "TO_FLOAT",
    "is_compiling",
    "is_exporting",
    "is_recomputing",
    "is_recording",
    "is_widening",
    "keep_in_rewrites",
    "splits_batches",
]


# What the operators of a cell with this `mixed_precision_type` get, by `Cell.to_float`.
TO_FLOAT = {
    MixedPrecisionType.FP16: ms.float16,
    MixedPrecisionType.BF16: ms.bfloat16,
    MixedPrecisionType.FP32: ms.float32,
}


def _calls_of(module: str, *functions: str) -> int:
    """How many calls of a module's functions are under way."""
    found, frame = 0, sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name in functions and frame.f_globals.get("__name__") == module:
            found += 1
        frame = frame.f_back
    return found


@ops.constexpr(get_instance=False)
def _is_compiling() -> bool:
    return True


class _IsCompiling(_is_compiling):
    def __call__(self) -> bool:
        return False


@ops.constexpr(get_instance=False, reuse_result=False)
def _is_exporting() -> bool:
    return _calls_of("mindspore.train.serialization", "export") > 0


class _IsExporting(_is_exporting):
    def __call__(self) -> bool:
        return False  # an export compiles


@ops.constexpr(get_instance=False, reuse_result=False)
def _is_recomputing() -> bool:
    return False  # a compiled graph does not repeat what has effects


class _IsRecomputing(_is_recomputing):
    def __call__(self) -> bool:
        return _calls_of("mindspore.common.recompute", "recompute_function", "bprop") > 0


@ops.constexpr(get_instance=False, reuse_result=False)
def _splits_batches() -> bool:
    mode, devices = map(ms.get_auto_parallel_context, ("parallel_mode", "device_num"))
    if GlobalComm.INITED:
        devices = max(devices, get_group_size())
    return devices > 1 and mode in ("semi_auto_parallel", "auto_parallel")


class _SplitsBatches(_splits_batches):
    def __call__(self) -> bool:
        return False  # these modes are of graphs


@ops.constexpr(get_instance=False)
def _is_recording() -> bool:
    return False


class _IsRecording(_is_recording):
    def __call__(self) -> bool:
        return _pynative_executor.grad_flag()


@ops.constexpr(get_instance=False)
def _is_widening() -> bool:
    return False


class _IsWidening(_is_widening):
    def __call__(self) -> bool:
        strategy = get_curr_amp_strategy()
        return strategy is not None and any(
            operator == "BatchNorm" for operator, _ in strategy.get_black_list()
        )


# Whether PyNative mode computes BatchNorm in float32, in mixed precision of level "auto". A graph
# tells by the dtype of an operator; asking for that in PyNative mode costs milliseconds.
is_widening = _IsWidening()

# Whether MindSpore compiles the caller, in graph mode or in `mindspore.jit`.
is_compiling = _IsCompiling()

# Whether `mindspore.export` compiles: its file has to load where this package is not.
is_exporting = _IsExporting()

# Whether a forward pass runs for the second time, in the backward pass, because of
# `Cell.recompute()` or `mindspore.recompute`.
is_recomputing = _IsRecomputing()

# Whether MindSpore distributes the operators of a graph over devices by itself: it knows what of
# an operator may be split for its own ones alone.
splits_batches = _SplitsBatches()

# Whether PyNative mode remembers what it computes, because a gradient is to be taken of it.
is_recording = _IsRecording()


def keep_in_rewrites(cls: type[nn.Cell]) -> None:
    """Let `mindspore.rewrite`, and so `amp` level O1, call cells of this class as they are.

    It would write a class anew that has the name of its base class, and fail.
    """
    namespace._subtree_black_list.append(cls)
