"""What is measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from itertools import product

__all__ = ["MODES", "STEPS", "Case", "Mode", "Step", "all_cases", "quick_cases"]


class Mode(str, Enum):
    GRAPH_MODE = "GRAPH_MODE"
    PYNATIVE_MODE = "PYNATIVE_MODE"


class Step(str, Enum):
    training = "training"
    inference = "inference"
    forward_backward = "forward_backward"


MODES = tuple(mode.value for mode in Mode)
STEPS = tuple(step.value for step in Step)

VIDEO = ((2, 64, 16, 56, 56), (2, 128, 8, 28, 28), (2, 256, 4, 14, 14))
MEDICAL = ((1, 32, 64, 64, 64), (2, 32, 96, 96, 96))
SMALL = ((4, 16, 8, 28, 28), (8, 512, 1, 4, 4), (1, 2880, 4, 8, 8))
BEYOND_L2 = ((1, 16, 128, 128, 128),)  # one channel alone is 8 MB

SHAPES = VIDEO + MEDICAL + SMALL + BEYOND_L2
HALF_SHAPES = (VIDEO[0], MEDICAL[0])

_DTYPES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, order=True)
class Case:
    """One tensor to normalise. `dtype` is the name NumPy, MindSpore and PyTorch share."""

    shape: tuple[int, int, int, int, int]
    dtype: str = "float32"

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * _DTYPES[self.dtype]

    @property
    def is_small(self) -> bool:
        """Below 2 MB a framework's cost for each call outweighs the kernel."""
        return self.nbytes < 2e6

    def __str__(self) -> str:
        return "x".join(map(str, self.shape)) + (
            "" if self.dtype == "float32" else f" {self.dtype}"
        )


def all_cases() -> list[Case]:
    return [Case(shape) for shape in SHAPES] + [
        Case(shape, dtype) for shape, dtype in product(HALF_SHAPES, ("float16", "bfloat16"))
    ]


def quick_cases() -> list[Case]:
    return [Case(VIDEO[1])]
