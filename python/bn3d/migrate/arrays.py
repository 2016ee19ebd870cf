"""Tensors of PyTorch, MindSpore and NumPy into each other, without loss.

NumPy has no bfloat16 and no float8; such values go through float32, which holds each of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mindspore as ms
import numpy as np

from bn3d.migrate.pytorch import import_torch

if TYPE_CHECKING:
    import torch

__all__ = ["dtype_name", "from_torch_tensor", "to_numpy", "to_torch_tensor"]

_FLOATS = ("float16", "float32", "float64")


def dtype_name(tensor: Any) -> str:
    """'float32', 'bfloat16', ... of a tensor of any of the three."""
    return str(tensor.dtype).rpartition(".")[2].lower()


def to_numpy(tensor: Any) -> np.ndarray:
    """A copy as a NumPy array; what NumPy has no dtype for, bfloat16 and float8, is float32."""
    if isinstance(tensor, np.ndarray):
        return tensor.copy()
    name = dtype_name(tensor)
    wide = "float" in name and name not in _FLOATS
    if isinstance(tensor, ms.Tensor):
        return (tensor.astype(ms.float32) if wide else tensor).asnumpy().copy()
    tensor = tensor.detach().cpu()
    return (tensor.float() if wide else tensor).numpy().copy()


def from_torch_tensor(tensor: torch.Tensor) -> ms.Tensor:
    """A copy as a MindSpore Tensor of the same dtype; float8 becomes float32."""
    array = to_numpy(tensor)
    name = "bfloat16" if dtype_name(tensor) == "bfloat16" else str(array.dtype)
    return ms.Tensor(array).astype(getattr(ms, name))


def to_torch_tensor(tensor: ms.Tensor) -> torch.Tensor:
    """A copy as a PyTorch tensor of the same dtype."""
    torch = import_torch("a tensor of PyTorch")
    return torch.from_numpy(to_numpy(tensor)).to(getattr(torch, dtype_name(tensor)))
