"""How far a long command is: a bar on a terminal, plain lines in a file, a pipe or TERM=dumb.

A line comes every `EVERY` seconds, whatever a step takes, because a thread of its own writes them;
after the first, one more comes at the end. Work that ends sooner prints none.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

__all__ = ["EVERY", "Progress", "progress"]

EVERY = 6.0  # seconds; less than 10, because MindSpore may keep the thread waiting


class Progress:
    """Steps of a work: `advance` after each, `say` what it is at."""

    def __init__(self, name: str, total: int, stream: IO[str], bar: Bar | None):
        self.name, self.total, self.stream, self.bar = name, total, stream, bar
        self.done, self.note, self.written = 0, "", 0
        self.start = self._counted_from = time.monotonic()
        self._counted = 0  # steps that were done at `_counted_from`
        self._lock = threading.Lock()
        if bar:
            self._task = bar.add_task(name, total=total, note="")

    def say(self, note: str) -> None:
        """What is being done now."""
        self.note = note
        self._draw()

    def advance(self, note: str | None = None, steps: int = 1) -> None:
        with self._lock:
            if self.done == 0:  # the first step compiles: it says nothing of the others
                self._counted, self._counted_from = steps, time.monotonic()
            self.done += steps
        if note is not None:
            self.note = note
        self._draw()

    def line(self) -> str:
        """`training: step 12 of 180, 0.34 s a step, 57 s left; loss 0.41`"""
        with self._lock:
            done, counted = self.done, self.done - self._counted
            seconds = time.monotonic() - self._counted_from
        text = f"{self.name}: step {done} of {self.total}"
        if done and counted > 0:
            text += f", {seconds / counted:.2g} s a step"
            text += f", {seconds / counted * (self.total - done):.0f} s left"
        else:
            text += f", {time.monotonic() - self.start:.0f} s so far"
        return f"{text}; {self.note}" if self.note else text

    def write(self) -> None:
        print(self.line(), file=self.stream, flush=True)
        self.written += 1

    def _draw(self) -> None:
        if self.bar:
            # By hand: a bar that draws itself takes a core from what is measured.
            self.bar.update(self._task, completed=self.done, note=self.note, refresh=True)


@contextmanager
def progress(
    name: str, total: int, stream: IO[str] | None = None, every: float = EVERY
) -> Iterator[Progress]:
    """A `Progress` of `total` steps that is written to `stream`, by default standard output."""
    stream = stream or sys.stdout
    if stream.isatty() and os.environ.get("TERM") != "dumb":  # that one cannot go back in a line
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn())
        last = (TextColumn("{task.fields[note]}"), TimeRemainingColumn())
        with Bar(*columns, *last, console=Console(file=stream), auto_refresh=False) as bar:
            yield Progress(name, total, stream, bar)
        return
    shown = Progress(name, total, stream, None)
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(every):
            shown.write()

    writer = threading.Thread(target=tick, name="bn3d progress", daemon=True)
    writer.start()
    try:
        yield shown
    finally:
        ended.set()
        writer.join()
        if shown.written:
            shown.write()
