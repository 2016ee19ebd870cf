"""Progress of a long command, as a log file gets it."""

from __future__ import annotations

import io
import re
import time

from bn3d.commands import progress as module
from bn3d.commands.progress import EVERY, progress
from support.printing import Terminal


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_a_line_at_least_every_ten_seconds_though_a_step_takes_longer():
    assert EVERY < 10
    stream = io.StringIO()
    with progress("training", 3, stream, every=0.02) as shown:
        shown.say("compiling")
        time.sleep(0.3)
        between = lines(stream)
        shown.advance()
    assert len(between) >= 3
    assert all(line.startswith("training: step 0 of 3, 0 s so far") for line in between)
    assert between[-1].endswith("; compiling")


def test_time_a_step_and_time_left(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with progress("bench", 10, stream) as shown:
        now[0] += 60.0  # the first step compiles and is not counted
        shown.advance()
        assert shown.line() == "bench: step 1 of 10, 60 s so far"
        now[0] += 1.0
        shown.advance(steps=2, note="GRAPH_MODE")
        assert shown.line() == "bench: step 3 of 10, 0.5 s a step, 4 s left; GRAPH_MODE"


def test_the_last_line_is_the_end_even_if_the_work_fails():
    stream = io.StringIO()
    try:
        with progress("verify", 2, stream, every=0.02) as shown:
            time.sleep(0.2)
            shown.advance()
            raise ValueError("stopped")
    except ValueError:
        pass
    assert re.fullmatch(r"verify: step 1 of 2, .*", lines(stream)[-1])


def test_what_is_done_soon_needs_no_line():
    stream = io.StringIO()
    with progress("check", 1, stream) as shown:
        shown.advance()
    assert not stream.getvalue()


def test_a_terminal_gets_a_bar():
    stream = Terminal()
    with progress("demo", 4, stream) as shown:
        shown.advance(note="loss 0.5", steps=4)
    assert "4/4" in stream.getvalue() and "loss 0.5" in stream.getvalue()
    assert "step 4 of 4" not in stream.getvalue()


def test_a_dumb_terminal_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    with progress("demo", 4, stream, every=0.02) as shown:
        time.sleep(0.2)
        shown.advance(steps=4)
    assert "demo: step 0 of 4" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
