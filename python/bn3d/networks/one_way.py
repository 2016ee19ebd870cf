"""Which conditions in the network's own functions went one way only."""

from __future__ import annotations

import dis
import sys
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from bn3d.networks.values import OUTSIDE

__all__ = ["OneWay"]

TraceFunction = Callable[[FrameType, str, Any], Any]


class OneWay:
    """Follows, as a context, the functions that run, and what comes after their conditions."""

    def __init__(self):
        self._ways: dict[tuple[CodeType, tuple], set[bool]] = defaultdict(set)

    def __enter__(self) -> OneWay:
        self._tracing = sys.gettrace()
        # Python 3.12 traces opcodes if a frame has asked for them before tracing starts.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(self._follow)
        return self

    def __exit__(self, *exception: object) -> None:
        sys.settrace(self._tracing)

    def _follow(self, frame: FrameType, event: str, argument: object) -> TraceFunction | None:
        if frame.f_globals.get("__name__", "").partition(".")[0] in OUTSIDE:
            return None
        code = frame.f_code
        before = -1  # no instruction yet
        conditions = _conditions(code)
        frame.f_trace_opcodes = True

        def follow(frame: FrameType, event: str, argument: object) -> TraceFunction:
            nonlocal before
            if event == "opcode":
                # Python 3.12 traces EXTENDED_ARG and its jump, which are one condition.
                condition = conditions.get(before)
                if condition and condition is not conditions.get(frame.f_lasti):
                    place, straight_on, jumps_if = condition
                    self._ways[code, place].add((frame.f_lasti != straight_on) == jumps_if)
                before = frame.f_lasti
            return follow

        return follow

    def lines(self) -> dict[str, list[int]]:
        """By file and function the lines of the conditions of which one way was never taken."""
        found = defaultdict(set)
        for (code, place), ways in self._ways.items():
            if len(ways) == 1:
                function = getattr(code, "co_qualname", code.co_name)  # since Python 3.11
                found[f"{Path(code.co_filename).name}: {function}"].add(place[0])
        return {place: sorted(lines) for place, lines in sorted(found.items())}


@cache
def _conditions(code: CodeType) -> dict[int, tuple[tuple, int, bool]]:
    """By the offsets of the conditional jumps in a function, `assert` aside: where they are in
    the source, as loops have several at one place; what follows without a jump; and of what
    they jump.
    """
    found, line, nth, start = {}, code.co_firstlineno, 0, None
    for instruction, after in pairwise(dis.get_instructions(code)):
        if instruction.starts_line:
            line, nth = instruction.starts_line, 0
        start = instruction.offset if start is None else start
        name = instruction.opname
        if name == "EXTENDED_ARG":
            continue  # until Python 3.11 what follows it is not traced: the jump is seen here
        if "JUMP" in name and "_IF_" in name and after.opname != "LOAD_ASSERTION_ERROR":
            # Python 3.10 has no columns: a loop has the conditions of its line twice in that order.
            place = (line, *(getattr(instruction, "positions", None) or (nth,)))
            nth += 1
            condition = place, after.offset, "TRUE" in name or "NOT_NONE" in name
            found[start] = found[instruction.offset] = condition
        start = None
    return found
