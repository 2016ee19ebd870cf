"""The only import of PyTorch in this package."""

from __future__ import annotations

from types import ModuleType

__all__ = ["import_torch"]


def import_torch(purpose: str) -> ModuleType:
    """PyTorch's module.

    Raises:
        ImportError: it is not installed; the text says who needs it and how to get it.
    """
    try:
        import torch  # noqa: PLC0415, PyTorch is needed for migration only
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs PyTorch ({error}); install it with: pip install torch"
        ) from error
    return torch
