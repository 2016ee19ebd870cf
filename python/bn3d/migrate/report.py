"""What a conversion did with each tensor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Conversion", "ConversionError", "Mapped"]


@dataclass(frozen=True)
class Mapped:
    """A tensor that found its place.

    Attributes:
        source, target: its name before and after.
        shape: after.
        dtype: after.
        cast_from: the dtype before, if it is another.
    """

    source: str
    target: str
    shape: tuple[int, ...]
    dtype: str
    cast_from: str | None = None


@dataclass
class Conversion:
    """What became of every tensor.

    Attributes:
        tensors: the result by name: MindSpore Parameters, or tensors of PyTorch.
        mapped: what was converted.
        missing: names of the target that got no value, and why.
        unexpected: names of the source that nothing in the target takes.
        mismatched: names of the source that do not fit the place they belong to, and why.
        dropped: names of the source with no meaning in the target (`num_batches_tracked`).
    """

    tensors: dict[str, Any] = field(default_factory=dict)
    mapped: list[Mapped] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    mismatched: dict[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing, unexpected or mismatched."""
        return not (self.missing or self.unexpected or self.mismatched)

    def check(self, partial: bool) -> None:
        """Raise ConversionError if the conversion is not complete and that was not asked for."""
        if not self.complete and not partial:
            self.tensors = {}
            raise ConversionError(self)

    @property
    def summary(self) -> str:
        """The counts, in one line."""
        return (
            f"{len(self.mapped)} mapped, {len(self.missing)} missing, "
            f"{len(self.unexpected)} unexpected, {len(self.mismatched)} mismatched, "
            f"{len(self.dropped)} dropped"
        )

    def __str__(self) -> str:
        lines = [self.summary]
        lines += [f"missing: {name}: {why}" for name, why in self.missing.items()]
        lines += [f"unexpected: {name}" for name in self.unexpected]
        lines += [f"mismatched: {name}: {why}" for name, why in self.mismatched.items()]
        lines += [
            f"cast: {each.target} from {each.cast_from} to {each.dtype}"
            for each in self.mapped
            if each.cast_from
        ]
        return "\n".join(lines)


class ConversionError(ValueError):
    """Not all is accounted for, and `partial` was not asked for.

    Attributes:
        conversion: what was found; nothing was written.
    """

    def __init__(self, conversion: Conversion):
        self.conversion = conversion
        super().__init__(
            f"not all tensors are accounted for, nothing was written:\n{conversion}\n"
            "give rules for the names, or partial=True (--partial) to convert what fits"
        )
