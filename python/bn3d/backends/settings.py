"""eps and momentum on their way to an operator."""

from __future__ import annotations

import numpy as np
from mindspore import Tensor

__all__ = ["as_bits"]


def as_bits(eps: float, momentum: float) -> Tensor:
    """(eps, momentum), the bits of doubles in int64: mixed precision casts every floating tensor
    that a layer hands to an operator.
    """
    return Tensor(np.array([eps, momentum]).view(np.int64))
