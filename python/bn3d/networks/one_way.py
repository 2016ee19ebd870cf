"""Which conditions in the network's own functions went one way only."""

from __future__ import annotations

import dis
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from types import CodeType

from bn3d.networks.values import OUTSIDE

__all__ = ["OneWay"]


class OneWay:
    """Follows, as a context, the functions that run, and what comes after their conditions."""

    def __init__(self):
        self._ways: dict[tuple[CodeType, int], set[int]] = defaultdict(set)

    def __enter__(self) -> OneWay:
        self._tracing = sys.gettrace()
        sys.settrace(self._follow)
        return self

    def __exit__(self, *exception) -> None:
        sys.settrace(self._tracing)

    def _follow(self, frame, event, argument):
        if frame.f_globals.get("__name__", "").partition(".")[0] in OUTSIDE:
            return None
        code, before = frame.f_code, None
        conditions = _conditions(code)
        frame.f_trace_opcodes = True

        def follow(frame, event, argument):
            nonlocal before
            if event == "opcode":
                if before in conditions:
                    self._ways[code, before].add(frame.f_lasti)
                before = frame.f_lasti
            return follow

        return follow

    def lines(self) -> dict[str, list[int]]:
        """By file and function the lines of the conditions of which one way was never taken."""
        found = defaultdict(set)
        for (code, offset), ways in self._ways.items():
            if len(ways) == 1:
                function = getattr(code, "co_qualname", code.co_name)  # since Python 3.11
                place = f"{Path(code.co_filename).name}: {function}"
                found[place].add(_conditions(code)[offset])
        return {place: sorted(lines) for place, lines in sorted(found.items())}


@cache
def _conditions(code: CodeType) -> dict[int, int]:
    """Offsets of the conditional jumps in a function, `assert` aside, and their lines."""
    found, line, start = {}, code.co_firstlineno, None
    instructions = list(dis.get_instructions(code))
    for instruction, after in zip(instructions, [*instructions[1:], None], strict=True):
        line = instruction.starts_line or line
        start = instruction.offset if start is None else start
        if instruction.opname == "EXTENDED_ARG":
            continue  # the jump that it belongs to is not followed by itself
        asserts = after is not None and after.opname == "LOAD_ASSERTION_ERROR"
        if "JUMP" in instruction.opname and "_IF_" in instruction.opname and not asserts:
            found[start] = line
        start = None
    return found
