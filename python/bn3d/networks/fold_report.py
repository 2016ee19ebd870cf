"""What `fold` did."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["FoldReport"]


@dataclass
class FoldReport:
    """What `fold` did. It is proven for the inputs of the call, and for no others.

    Attributes:
        folded: names of the batch norm layers that are folded, and of the layers they are in.
        left: names of the batch norm layers that were left as they are, and why.
        error: largest difference between what the network gave and gives, as a part of the
            largest value; None if nothing is folded.
        one_way: by file and function, the lines of conditions in the network's own code that
            went one way only. Nothing is known of the other way.

    Examples:
        >>> net = nn.SequentialCell(nn.ReLU(), nn.BatchNorm3d(1)).set_train(False)
        >>> list(bn3d.fold(net, ops.ones((1, 1, 8, 8, 8))).left)
        ['1']
    """

    folded: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    error: float | None = None
    one_way: dict[str, list[int]] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{len(self.folded)} folded, {len(self.left)} left as they are"]
        if self.folded:
            lines.append(f"proven for these inputs: the output differs by {self.error:.1e}")
        lines += [f"left: {name}: {reason}" for name, reason in self.left.items()]
        lines += [
            f"a condition went one way only: {place}, line {line}"
            for place, numbers in self.one_way.items()
            for line in numbers
        ]
        return "\n".join(lines)
