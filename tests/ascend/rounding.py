"""Rounding to the dtypes of a volume; NumPy has no bfloat16, so that one is held in float32."""

import numpy as np


def rounded(array, dtype):
    """To nearest even."""
    if dtype != "bfloat16":
        return np.asarray(array).astype(dtype)
    bits = np.asarray(array, np.float32).view(np.uint32)
    kept = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return kept.astype(np.uint32).view(np.float32)
