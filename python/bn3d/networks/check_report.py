"""What `cross_check` found, of a layer and of a network."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from bn3d.networks.judging import Quantity
from bn3d.reference import TOLERANCES

__all__ = ["CrossCheck", "LayerCheck"]


@dataclass(frozen=True)
class LayerCheck:
    """How one layer compares with the judge, the worst of all its calls.

    Attributes:
        name: of the layer in the network.
        kind: its class.
        backend: what computes: a backend of bn3d, "mindspore" for a stock layer, or the class of a
            network's own.
        shape: of x in the last call; () if it was not called.
        dtype: of y.
        calls: how often it was called.
        quantities: the results that were compared.
        reasons: why it is not ok, each quantity and what about the data explains it.
    """

    name: str
    kind: str
    backend: str
    shape: tuple[int, ...]
    dtype: str
    calls: int
    quantities: tuple[Quantity, ...]
    reasons: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.reasons

    @property
    def error(self) -> float:
        """The largest error, in tolerances: above 1 it is not ok."""
        return max((q.error / TOLERANCES[q.dtype] for q in self.quantities), default=0.0)

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON; the errors by their quantity, None where a value is not finite."""
        return {
            "name": self.name,
            "ok": self.ok,
            "kind": self.kind,
            "backend": self.backend,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "calls": self.calls,
            "errors": {
                q.name: {
                    "relative": q.error if math.isfinite(q.error) else None,
                    "ulp": q.ulp if math.isfinite(q.ulp) else None,
                    "dtype": q.dtype,
                    "ok": q.ok,
                }
                for q in self.quantities
            },
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True)
class CrossCheck:
    """What `cross_check` found.

    Attributes:
        layers: a check for each layer, worst first.
        training: whether a backward pass ran, too.
        notes: what was not checked, and why.

    Examples:
        >>> check = bn3d.cross_check(bn3d.BatchNorm3d(8), ops.ones((2, 8, 4, 4, 4)))
        >>> check.ok, check.training
        (True, False)
    """

    layers: list[LayerCheck]
    training: bool
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every layer that was called is right, and one was called."""
        return all(layer.ok for layer in self.layers) and any(layer.calls for layer in self.layers)

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "ok": self.ok,
            "training": self.training,
            "layers": [layer.as_dict() for layer in self.layers],
            "notes": self.notes,
        }

    def __str__(self) -> str:
        wrong = sum(not layer.ok for layer in self.layers)
        passes = "forward and backward" if self.training else "forward"
        total = len(self.layers)
        if self.ok:
            verdict = f"right: all {total} batch norm layers agree with the judge, {passes}"
        elif wrong:
            verdict = f"wrong: {wrong} of {total} batch norm layers differ from the judge, {passes}"
        else:
            verdict = f"not checked: none of {total} batch norm layers was called"
        lines = [verdict]
        for layer in self.layers:
            name = layer.name or "the layer"
            if not layer.calls:
                lines.append(f"?     {name} ({layer.backend}): not called")
                continue
            errors = ", ".join(f"{q.name} {q.ulp:.3g}" for q in layer.quantities)
            shape = "x".join(map(str, layer.shape))
            lines.append(
                f"{'ok   ' if layer.ok else 'WRONG'} {name} "
                f"({layer.backend}, {shape} {layer.dtype}), ulp: {errors}"
            )
            lines += [f"      {reason}" for reason in layer.reasons]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])
