"""What `swap` and `restore` tell of what they did."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["SwapReport"]

_WIDTH = 80


@dataclass
class SwapReport:
    """What `swap` or `restore` did. As text it lists the layers by name, wrapped at 80 columns.

    Attributes:
        changed: names of the cells whose class was changed.
        already: names of the cells that needed no change.
        left: names of the cells that were left alone, and why.
        done: what the changed ones do now.

    Examples:
        >>> report = bn3d.swap(nn.SequentialCell(nn.BatchNorm3d(8), bn3d.BatchNorm3d(8)))
        >>> report.changed, report.already, report.left
        (['0'], ['1'], {})
    """

    changed: list[str] = field(default_factory=list)
    already: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    done: str = "changed"

    def __str__(self) -> str:
        every = len(self.changed) + len(self.already) + len(self.left)
        lines = [_listed(f"{len(self.changed)} of {every} BatchNorm3d {self.done}", self.changed)]
        if self.already:
            lines.append(_listed(f"{len(self.already)} needed no change", self.already))
        lines += [f"left alone: {_called(name)}: {why}" for name, why in self.left.items()]
        return "\n".join(lines)


def _called(name: str) -> str:
    return name or "the layer itself"


def _listed(what: str, names: Iterable[str]) -> str:
    """The names after a text, on as many lines as they need; none is cut."""
    text = ", ".join(map(_called, names))
    return textwrap.fill(
        f"{what}: {text}" if text else what,
        _WIDTH,
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
