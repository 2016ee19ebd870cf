"""What MindSpore is doing right now, as far as a layer has to know it.

MindSpore offers no question for either, so the answer is in who called, or in what calls.
"""

from __future__ import annotations

import sys

from mindspore import nn, ops
from mindspore.rewrite.common import namespace

__all__ = ["is_compiling", "is_exporting", "is_recomputing", "keep_in_rewrites"]


def _called_from(module: str, functions: tuple[str, ...]) -> bool:
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name in functions and frame.f_globals.get("__name__") == module:
            return True
        frame = frame.f_back
    return False


@ops.constexpr(get_instance=False)
def _is_compiling() -> bool:
    return True


class _IsCompiling(_is_compiling):
    def __call__(self) -> bool:
        return False


@ops.constexpr(get_instance=False, reuse_result=False)
def _is_exporting() -> bool:
    return _called_from("mindspore.train.serialization", ("export",))


class _IsExporting(_is_exporting):
    def __call__(self) -> bool:
        return False  # an export compiles


@ops.constexpr(get_instance=False, reuse_result=False)
def _is_recomputing() -> bool:
    return False  # a compiled graph does not repeat what has effects


class _IsRecomputing(_is_recomputing):
    def __call__(self) -> bool:
        return _called_from("mindspore.common.recompute", ("recompute", "bprop"))


# Whether MindSpore compiles the caller, in graph mode or in `mindspore.jit`.
is_compiling = _IsCompiling()

# Whether `mindspore.export` compiles: its file has to load where this package is not.
is_exporting = _IsExporting()

# Whether a forward pass runs for the second time, in the backward pass, because of
# `Cell.recompute()`.
is_recomputing = _IsRecomputing()


def keep_in_rewrites(cls: type[nn.Cell]) -> None:
    """Let `mindspore.rewrite`, and so `amp` level O1, call cells of this class as they are.

    It would write a class anew that has the name of its base class, and fail.
    """
    namespace._subtree_black_list.append(cls)
