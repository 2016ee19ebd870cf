"""A question that is asked whenever MindSpore has compiled a graph, before the graph runs."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import mindspore as ms
from mindspore import nn

from bn3d.mindspore_private import graphs
from bn3d.mindspore_private.names import ask

__all__ = ["Engine", "recompile_if"]

Engine = tuple[tuple[str, str], ...]
"""What chooses the engine of a graph: those arguments of `mindspore.JitConfig` that were set."""

_CHOOSE_ENGINES = ("jit_level", "exc_mode", "backend")

_jit_executor = ask(
    f"{ms.ms_memory_recycle.__module__}._JitExecutor",  # which has moved in 2.9
    "operators of Ascend are not tried before the first run of a function of mindspore.jit",
)
_questions: list[Callable[[Engine], bool]] = []
_asking_ones: set[Callable] = set()
_busy = threading.local()  # a question may compile graphs of its own


def recompile_if(question: Callable[[Engine], bool]) -> None:
    """Ask whenever MindSpore has compiled the graph of a cell or of a function, whether that failed
    or not, and when it finds it compiled.

    Args:
        question: called with the engine of the graph, without one being compiled in this thread.
            True has the graph dropped and compiled once more.
    """
    if question not in _questions:
        _questions.append(question)
    for owner, drop in (
        (nn.Cell, lambda cell, _phase: graphs.drop_of_cell(cell)),
        (_jit_executor, lambda _executor, phase: graphs.drop_of_function(phase)),
    ):
        if owner is not None and owner.compile not in _asking_ones:
            owner.compile = _asking(owner.compile, drop)


def _asking(compile: Callable, drop: Callable) -> Callable:
    def asking(self, *args, **kwargs):
        if getattr(_busy, "is_set", False):
            return compile(self, *args, **kwargs)
        _busy.is_set = True
        try:
            try:
                phase = compile(self, *args, **kwargs)
            except Exception:
                if not _is_to_be_compiled_again(_engine(self)):
                    raise
            else:
                if not _is_to_be_compiled_again(_engine(self)):
                    return phase
                drop(self, phase)
            return compile(self, *args, **kwargs)
        finally:
            _busy.is_set = False

    functools.update_wrapper(asking, compile)
    _asking_ones.add(asking)
    return asking


def _engine(owner: Any) -> Engine:
    config = getattr(owner, "jit_config_dict", None) or {}
    return tuple((name, config[name]) for name in _CHOOSE_ENGINES if name in config)


def _is_to_be_compiled_again(engine: Engine) -> bool:
    answers = [question(engine) for question in _questions]
    return any(answers)
