"""What MindSpore is doing right now, as far as a layer has to know it.

These functions run in Python when a layer is called in PyNative mode, and once, at compile
time, in graph mode.
"""

from __future__ import annotations

import sys

from mindspore import ops

__all__ = ["needs_stock_operators", "repeats_forward"]


def _called_from(*places: tuple[str, str]) -> bool:
    frame = sys._getframe(2)
    while frame is not None:
        if (frame.f_globals.get("__name__"), frame.f_code.co_name) in places:
            return True
        frame = frame.f_back
    return False


@ops.constexpr(reuse_result=False)
def needs_stock_operators() -> bool:
    """Whether an operator of ours has no place here: `mindspore.export` writes a file that is
    to load without this package."""
    return False


@ops.constexpr(reuse_result=False)
def repeats_forward() -> bool:
    """Whether this is the second run of a forward pass, which `Cell.recompute()` makes in the
    backward pass in PyNative mode. In graph mode MindSpore itself leaves out what has effects."""
    return False
