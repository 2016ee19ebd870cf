"""How far an output may be off, by its dtype."""

from __future__ import annotations

__all__ = ["TOLERANCES"]

# Relative to the scale of a value. Half precision: half a unit in the last place, twice. float32:
# sums in any order, and reciprocal square roots as accurate as devices have them.
TOLERANCES = {"float32": 2e-5, "float16": 1e-3, "bfloat16": 8e-3}
