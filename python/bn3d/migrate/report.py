"""What a conversion did with each tensor."""

from __future__ import annotations

from collections import Counter
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
        dropped: names of the source with no meaning in the target: `num_batches_tracked`, what
            is no tensor, what a layer that is not affine or tracks no statistics has here only.
        filled: names of the target that such a layer of PyTorch does not have, and the values
            that it computes with.
        hint: what would make more names fit, if that is known.

    Examples:
        >>> state = torch.nn.BatchNorm3d(8).state_dict()
        >>> conversion = bn3d.convert_state_dict(state, bn3d.BatchNorm3d(8))
        >>> conversion.complete, conversion.dropped
        (True, ['num_batches_tracked'])
    """

    tensors: dict[str, Any] = field(default_factory=dict)
    mapped: list[Mapped] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    mismatched: dict[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    filled: dict[str, str] = field(default_factory=dict)
    hint: str | None = None

    @property
    def complete(self) -> bool:
        """Whether nothing is missing, unexpected or mismatched."""
        return not (self.missing or self.unexpected or self.mismatched)

    def check(self, partial: bool) -> None:
        """Raise ConversionError if the conversion is not complete and that was not asked for, or
        if nothing fits.
        """
        if not self.complete and not (partial and self.mapped):
            self.tensors = {}
            raise ConversionError(self)

    @property
    def summary(self) -> str:
        """The counts, in one line."""
        text = (
            f"{len(self.mapped)} mapped, {len(self.missing)} missing, "
            f"{len(self.unexpected)} unexpected, {len(self.mismatched)} mismatched, "
            f"{len(self.dropped)} dropped"
        )
        if self.filled:
            text += f", {len(self.filled)} filled"
        casts = Counter((each.cast_from, each.dtype) for each in self.mapped if each.cast_from)
        for (before, after), count in casts.items():
            text += f", {count} cast from {before} to {after}"
        return text

    def problems(self) -> list[str]:
        """A line for each tensor without its place; none where a hint says it for all."""
        if self.hint and not self.mapped:
            return []
        lines = [f"missing: {name}: {why}" for name, why in self.missing.items()]
        lines += [f"unexpected: {name}: nothing takes it" for name in self.unexpected]
        lines += [f"mismatched: {name}: {why}" for name, why in self.mismatched.items()]
        return lines

    def successes(self) -> list[str]:
        """A line for each tensor that was taken, filled or dropped."""
        lines = []
        for each in self.mapped:
            cast = f", cast from {each.cast_from}" if each.cast_from else ""
            lines.append(f"mapped: {each.source}: to {each.target} {each.shape} {each.dtype}{cast}")
        lines += [f"filled: {name}: {why}" for name, why in self.filled.items()]
        lines += [f"dropped: {name}: has no meaning there" for name in self.dropped]
        return lines

    def __str__(self) -> str:
        lines = [self.summary, *self.problems()]
        lines += [
            f"cast: {each.target} from {each.cast_from} to {each.dtype}"
            for each in self.mapped
            if each.cast_from
        ]
        return "\n".join(lines)


class ConversionError(ValueError):
    """Not all is accounted for and `partial` was not asked for, or nothing fits at all.

    Attributes:
        conversion: what was found; nothing was written.

    Examples:
        >>> state = {"weight": np.ones(8, np.float32)}
        >>> try:
        ...     bn3d.convert_state_dict(state, bn3d.BatchNorm3d(8))
        ... except bn3d.ConversionError as error:
        ...     list(error.conversion.missing)
        ['bn2d.moving_mean', 'bn2d.moving_variance', 'bn2d.beta']
    """

    def __init__(self, conversion: Conversion):
        self.conversion = conversion
        remedy = "give rules for the names, or partial=True (--partial) to convert what fits"
        super().__init__(
            f"not all tensors are accounted for, nothing was written:\n{conversion}\n"
            f"{conversion.hint or remedy}"
        )
