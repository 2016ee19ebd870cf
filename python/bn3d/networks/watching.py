"""Runs a network while someone watches what each of its cells gets and gives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import mindspore as ms
from mindspore import nn

__all__ = ["Observer", "has_hooks", "watched"]


class Observer:
    """Is told of each call of a cell, and may change it."""

    def start(self) -> None:
        """Before the run."""

    def stop(self) -> None:
        """After it, however it ends."""

    def gets(self, cell: nn.Cell, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        """Before a call; gives other arguments, or None."""

    def gives(self, cell: nn.Cell, args: tuple, kwargs: dict, output: object) -> object | None:
        """After a call; gives another output, or None."""


def has_hooks(cell: nn.Cell) -> bool:
    """Whether a cell has hooks that see or change what it gets or gives."""
    # Not by the properties of 2.9 and later, which create what they are asked for.
    names = ("_forward_hook", "_forward_pre_hook")
    return any(vars(cell).get(f"{lazy}{name}") for name in names for lazy in ("", "_lazy"))


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
            cell.requires_grad = False  # else a run that stops leaves a gradient open
            cell.has_bprop = False  # such cells take no hooks
            first = cell.register_forward_pre_hook(before, prepend=True, with_kwargs=True)
            stack.callback(first.remove)
            stack.callback(cell.register_forward_hook(after, with_kwargs=True).remove)
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
            del os.environ["MS_JIT"]
        else:
            os.environ["MS_JIT"] = jit
