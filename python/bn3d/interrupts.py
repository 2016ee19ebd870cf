"""Ctrl-C in a command: one line, exit code 130, nothing left running.

An exception is no way out of MindSpore: raised while its libraries load, it is a fatal error of
Python; and while a graph is compiled or runs, MindSpore's own handler sends the process SIGTERM.
So SIGINT is blocked in every thread, and one thread waits for it and ends the process. What must
not be cut short asks for KeyboardInterrupt (`raised`) or sets a handler of its own.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["EXIT_CODE", "guard", "leave", "raised", "settle"]

EXIT_CODE = 130
_guarded = False
_leaving = threading.Event()


def guard() -> None:
    """From now on SIGINT ends this process. To be called once, by the main thread.

    Without signals of POSIX it does nothing: Ctrl-C raises KeyboardInterrupt there.
    """
    global _guarded  # noqa: PLW0603, a process has one way to take a signal
    if not hasattr(signal, "pthread_sigmask"):
        return
    _guarded = True
    signal.signal(signal.SIGINT, _leave)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    threading.Thread(target=_wait, name="bn3d interrupts", daemon=True).start()


@contextmanager
def raised() -> Iterator[None]:
    """Inside of it SIGINT raises KeyboardInterrupt, to put things in order; then the process ends.

    It is for code that neither imports MindSpore nor runs it; programs that it starts get SIGINT,
    too. In a process that is not guarded it changes nothing.
    """
    if not _guarded:
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        yield
    except KeyboardInterrupt:
        leave()
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, before)


def leave() -> None:
    """End the process with one line, whatever its other threads do."""
    _leaving.set()
    _say("bn3d: interrupted")
    # What fails in other threads because of this has nothing to add.
    with suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
    _end_children()
    os._exit(EXIT_CODE)


def settle() -> None:
    """At the end of a command: let `leave`, if another thread is in it, finish."""
    while _leaving.is_set():
        time.sleep(1)


def _leave(_number: int, _frame: object) -> None:
    leave()


def _wait() -> None:
    while True:
        signal.sigwait({signal.SIGINT})
        if signal.getsignal(signal.SIGINT) is _leave:
            leave()
        # The handler that somebody has set, in the main thread, as soon as that runs Python again.
        _say("bn3d: interrupted, ending in order; Ctrl-C once more ends at once")
        _thread.interrupt_main()


def _say(line: str) -> None:
    bar = os.isatty(2) and os.environ.get("TERM") != "dumb"
    show_cursor = "\x1b[?25h\n" if bar else ""  # a progress bar hides it
    with suppress(OSError):
        os.write(2, f"{show_cursor}{line}\n".encode())


def _end_children() -> None:
    """End what this process has started, and release what multiprocessing shares with it."""
    for children in Path("/proc/self/task").glob("*/children"):  # Linux only
        with suppress(OSError):
            for number in children.read_text().split():
                os.kill(int(number), signal.SIGTERM)
    multiprocessing = sys.modules.get("multiprocessing.util")
    if multiprocessing is None:
        return
    with suppress(Exception):
        import multiprocessing as processes  # noqa: PLC0415, it is there already

        for child in processes.active_children():
            child.kill()
        multiprocessing._exit_function()
