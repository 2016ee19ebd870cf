"""Runs a network while someone watches what each of its cells gets and gives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import mindspore as ms
from mindspore import nn

__all__ = ["Observer", "has_hooks", "watched"]


class Observer:
    """Is told of each call of a cell, and may change it; this one does nothing."""

    def gets(self, cell: nn.Cell, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        """Before the call; what is returned is what the cell gets."""

    def gives(self, cell: nn.Cell, args: tuple, kwargs: dict, output: object) -> object | None:
        """After the call; what is returned is what the cell gives."""


def has_hooks(cell: nn.Cell) -> bool:
    """Whether a cell has hooks that see or change what it gets or gives."""
    return bool(cell._forward_hook or cell._forward_pre_hook)


@contextmanager
def watched(cells: list[nn.Cell], observer: Observer) -> Iterator[None]:
    """Show an observer all calls of these cells, in PyNative mode and without `mindspore.jit`.

    Attributes of the cells are for the caller to put back.
    """
    entered: list[nn.Cell] = []  # and not left yet
    raised: list[nn.Cell] = []

    def before(cell, args, kwargs):
        entered.append(cell)
        return observer.gets(cell, args, kwargs)

    def after(cell, args, kwargs, output):
        found = observer.gives(cell, args, kwargs, output)
        while (last := entered.pop()) is not cell:
            raised.append(last)
        return found

    with ExitStack() as stack:
        stack.enter_context(_in_pynative_mode())
        for cell in cells:
            cell.requires_grad = False  # else a pass that is cut off leaves a gradient open
            cell.has_bprop = False  # such cells take no hooks
            for register, hook in (
                (cell.register_forward_pre_hook, before),
                (cell.register_forward_hook, after),
            ):
                first = {"prepend": True} if hook is before else {}
                stack.callback(register(hook, with_kwargs=True, **first).remove)
        try:
            yield
        finally:
            # A cell that raises leaves MindSpore computing in the precision of its to_float.
            for cell in [*entered, *raised]:
                if cell.mixed_precision_type is not None:
                    cell._call_post_process(None)


@contextmanager
def _in_pynative_mode() -> Iterator[None]:
    mode, jit = ms.get_context("mode"), os.environ.get("MS_JIT")
    try:
        os.environ["MS_JIT"] = "0"
        ms.set_context(mode=ms.PYNATIVE_MODE)
        yield
    finally:
        ms.set_context(mode=mode)
        if jit is None:
            os.environ.pop("MS_JIT", None)
        else:
            os.environ["MS_JIT"] = jit
