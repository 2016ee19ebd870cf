"""Runs a network while someone watches what each of its cells gets and gives."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import mindspore as ms
from mindspore import nn

from bn3d.mindspore_private import precision, recompute
from bn3d.mindspore_private.execution import drop_gradients, is_recording

__all__ = ["Observer", "pynative_mode", "watched"]


@contextmanager
def pynative_mode() -> Iterator[None]:
    """PyNative mode in the block, and afterwards the one before. What MindSpore leaves open where
    a run raises is closed: the precision of a cell's `to_float`, and the record for a gradient.
    """
    mode, recording, call = ms.get_context("mode"), is_recording(), nn.Cell.__call__

    @functools.wraps(call)
    def closed(cell, *args, **kwargs):
        try:
            return call(cell, *args, **kwargs)
        except BaseException:
            precision.leave(cell)
            raise

    try:
        nn.Cell.__call__ = closed
        ms.set_context(mode=ms.PYNATIVE_MODE)
        yield
    finally:
        if is_recording() and not recording:  # it ended within `mindspore.grad`
            drop_gradients()
        nn.Cell.__call__ = call
        ms.set_context(mode=mode)


class Observer:
    """Is told of each call of a cell, and may change it."""

    def start(self) -> None:
        """Before the run."""

    def stop(self) -> None:
        """After it, however it ended."""

    def gets(self, cell: nn.Cell, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        """Before a call; gives other arguments, or None."""

    def gives(self, cell: nn.Cell, args: tuple, kwargs: dict, output: object) -> object | None:
        """After a call; gives another output, or None."""


@contextmanager
def watched(cells: list[nn.Cell], observer: Observer) -> Iterator[None]:
    """Show an observer all calls of these cells, in PyNative mode and without `mindspore.jit`.

    Attributes of the cells are for the caller to put back.
    """
    of_network = set(map(id, cells))
    undo = ExitStack()
    undo.enter_context(pynative_mode())
    call = nn.Cell.__call__

    @functools.wraps(call)
    def observed(cell, *args, **kwargs):
        if id(cell) not in of_network:
            return call(cell, *args, **kwargs)
        args, kwargs = observer.gets(cell, args, kwargs) or (args, kwargs)
        output = call(cell, *args, **kwargs)
        other = observer.gives(cell, args, kwargs, output)
        return output if other is None else other

    jit = os.environ.get("MS_JIT")
    try:
        nn.Cell.__call__ = observed
        os.environ["MS_JIT"] = "0"
        for cell in cells:
            # A run is for no gradient but those that the network takes itself.
            cell.requires_grad = False
            recompute.switch_off(cell)
        observer.start()
        yield
    finally:
        observer.stop()
        nn.Cell.__call__ = call
        undo.close()
        os.environ.pop("MS_JIT", None)
        if jit is not None:
            os.environ["MS_JIT"] = jit
