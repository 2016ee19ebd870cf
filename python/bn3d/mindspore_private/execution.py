"""What MindSpore is doing right now, as far as a layer needs to know.

MindSpore offers no question for most of it, so the answer is in who called, or in what calls: each
question is a constant to a graph, answered as it is compiled, and a call in PyNative mode.
"""

from __future__ import annotations

import sys
from types import FrameType

import mindspore as ms
from mindspore import ops
from mindspore.communication import GlobalComm, get_group_size

from bn3d.mindspore_private.names import ask

__all__ = [
    "drop_gradients",
    "is_compiling",
    "is_constant",
    "is_exporting",
    "is_recomputing",
    "is_recording",
    "splits_batches",
]

_pynative_executor = ask(
    f"{ms.ms_memory_recycle.__module__}._pynative_executor",  # which has moved in 2.9
    "in PyNative mode batches that span devices copy gamma and the statistics in each call",
)
_isconstant = ask(
    "mindspore.ops.functional.isconstant",
    "graphs learn the shape of a volume as they run, which costs an operator a layer",
)


def _calls_of(module: str, *functions: str) -> int:
    """How many calls of a module's functions are under way."""
    found = 0
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name in functions and frame.f_globals.get("__name__") == module:
            found += 1
        frame = frame.f_back
    return found


# mypy takes no decorated function for a base class, whatever the decorator returns.


@ops.constexpr(get_instance=False)
def _is_compiling() -> bool:
    return True


class _IsCompiling(_is_compiling):  # type: ignore[valid-type, misc]
    def __call__(self) -> bool:
        return False


@ops.constexpr(get_instance=False, reuse_result=False)
def _is_exporting() -> bool:
    return _calls_of("mindspore.train.serialization", "export") > 0


class _IsExporting(_is_exporting):  # type: ignore[valid-type, misc]
    def __call__(self) -> bool:
        return False  # an export compiles


@ops.constexpr(get_instance=False, reuse_result=False)
def _is_recomputing() -> bool:
    return False  # a compiled graph does not repeat what has effects


class _IsRecomputing(_is_recomputing):  # type: ignore[valid-type, misc]
    def __call__(self) -> bool:
        return _calls_of("mindspore.common.recompute", "recompute_function", "bprop") > 0


@ops.constexpr(get_instance=False, reuse_result=False)
def _splits_batches() -> bool:
    mode, devices = map(ms.get_auto_parallel_context, ("parallel_mode", "device_num"))
    if GlobalComm.INITED:
        devices = max(devices, get_group_size())
    return devices > 1 and mode in ("semi_auto_parallel", "auto_parallel")


class _SplitsBatches(_splits_batches):  # type: ignore[valid-type, misc]
    def __call__(self) -> bool:
        return False  # these modes are of graphs


@ops.constexpr(get_instance=False)
def _is_recording() -> bool:
    return False


class _IsRecording(_is_recording):  # type: ignore[valid-type, misc]
    def __call__(self) -> bool:
        return True if _pynative_executor is None else _pynative_executor.grad_flag()


@ops.constexpr(get_instance=False)
def _is_known_later(_value: object) -> bool:
    return False


class _IsKnown(_is_known_later):  # type: ignore[valid-type, misc]
    def __call__(self, _value: object) -> bool:
        return True


def drop_gradients() -> None:
    """End all recording for gradients, which goes on after an error within `mindspore.grad`."""
    if _pynative_executor is not None:
        _pynative_executor.clear_res()


# Whether MindSpore compiles the caller, in graph mode or in `mindspore.jit`.
is_compiling = _IsCompiling()

# Whether `mindspore.export` compiles: its file has to load where this package is not installed.
is_exporting = _IsExporting()

# Whether a forward pass runs for the second time, in the backward pass, because of
# `Cell.recompute()` or `mindspore.recompute`.
is_recomputing = _IsRecomputing()

# Whether MindSpore distributes the operators of a graph over devices by itself: it knows only of
# its own ones how they may be split.
splits_batches = _SplitsBatches()

# Whether PyNative mode remembers what it computes, because a gradient is to be taken of it.
is_recording = _IsRecording()

# Whether a value, such as a shape, is known when a graph is compiled; in PyNative mode all are.
is_constant = _IsKnown() if _isconstant is None else _isconstant
