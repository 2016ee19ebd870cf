"""One batch norm layer from PyTorch to MindSpore and back."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import mindspore as ms
import numpy as np
from mindspore import nn

from bn3d.batch_norm import BatchNorm3d
from bn3d.cell_state import fixed_settings
from bn3d.migrate.arrays import from_torch_tensor, to_numpy, to_torch_tensor
from bn3d.migrate.pytorch import import_torch
from bn3d.sync_batch_norm import SyncBatchNorm3d
from bn3d.torch_style import from_torch_style

if TYPE_CHECKING:
    import torch

__all__ = ["from_torch", "to_torch"]

_STATISTICS = ("running_mean", "running_var")
_AFFINE = ("weight", "bias")


def from_torch(module: torch.nn.Module, *, momentum: float | None = None) -> BatchNorm3d:
    """The `bn3d.BatchNorm3d` that computes what a layer of PyTorch computes; for a SyncBatchNorm
    it is a `bn3d.SyncBatchNorm3d` over all devices.

    Parameters and statistics are copied; a weight that is not trained stays so; training or
    evaluation mode and dtype are those of the module.

    | PyTorch                           | here                                              |
    |-----------------------------------|---------------------------------------------------|
    | tracks statistics                 | `use_batch_statistics=None`                       |
    | has none                          | `use_batch_statistics=True`                       |
    | has some and stopped tracking     | `use_batch_statistics=None`, momentum=1           |
    | Frozen...BatchNorm, buffers only  | `use_batch_statistics=False`, nothing is trained  |

    Args:
        module: `torch.nn.BatchNorm3d`, `torch.nn.SyncBatchNorm` or a frozen batch norm: one
            that holds weight, bias, running_mean and running_var as buffers.
        momentum: PyTorch's, the weight of the new value, in place of the module's own; a
            module with momentum None that tracks statistics needs it.

    Raises:
        ImportError: PyTorch is not installed.
        TypeError: `module` is none of these.
        ValueError: momentum is None or out of range; the module is lazy and has no size yet.
    """
    torch = import_torch("bn3d.from_torch")
    frozen = _is_frozen(module, torch)
    _check_module(module, frozen, torch)
    if frozen:
        kept, use_batch_statistics = 1.0, False
    else:
        kept, use_batch_statistics = from_torch_style(
            module.momentum if momentum is None else momentum,
            bool(module.track_running_stats),
            module.running_mean is not None,
        )
    tensors = {name: getattr(module, name, None) for name in (*_AFFINE, *_STATISTICS)}
    given = [tensor for tensor in tensors.values() if tensor is not None]
    dtype = from_torch_tensor(given[0]).dtype if given else ms.float32
    synchronised = isinstance(module, torch.nn.SyncBatchNorm)
    layer = (SyncBatchNorm3d if synchronised else BatchNorm3d)(
        len(given[0]) if given else module.num_features,
        float(module.eps),
        kept,
        use_batch_statistics=use_batch_statistics,
        dtype=dtype,
    )
    bn = layer.bn2d
    for parameter, name in (
        (bn.gamma, "weight"),
        (bn.beta, "bias"),
        (bn.moving_mean, "running_mean"),
        (bn.moving_variance, "running_var"),
    ):
        if tensors[name] is not None:
            parameter.set_data(from_torch_tensor(tensors[name]).astype(dtype))
        if name in _AFFINE:
            parameter.requires_grad = tensors[name] is not None and tensors[name].requires_grad
    layer.set_train(module.training)
    if synchronised and module.process_group is not None:
        warnings.warn(
            "bn3d.from_torch: the SyncBatchNorm has a process group of PyTorch, the "
            "SyncBatchNorm3d made from it spans all devices",
            stacklevel=2,
        )
    return layer


def to_torch(layer: nn.BatchNorm3d) -> torch.nn.BatchNorm3d | torch.nn.SyncBatchNorm:
    """The `torch.nn.BatchNorm3d` that computes what a layer of MindSpore computes; for a
    `bn3d.SyncBatchNorm3d` it is a SyncBatchNorm over all processes.

    Args:
        layer: `bn3d.BatchNorm3d`, or a stock `mindspore.nn.BatchNorm3d` with a child bn2d.

    Raises:
        ImportError: PyTorch is not installed.
        TypeError: `layer` is none of these.
        ValueError: `use_batch_statistics` is False and the layer in training mode: no state
            of PyTorch's layer normalises by the statistics while it trains; `set_train(False)`
            first.
    """
    torch = import_torch("bn3d.to_torch")
    bn = getattr(layer, "bn2d", None)
    if not isinstance(layer, nn.BatchNorm3d) or not isinstance(bn, nn.BatchNorm2d):
        raise TypeError(
            f"bn3d.to_torch: 'layer' must be a BatchNorm3d of bn3d or mindspore.nn with a child "
            f"bn2d, got {type(layer).__module__}.{type(layer).__qualname__}"
        )
    if bn.use_batch_statistics is False and bn.training:
        raise ValueError(
            "bn3d.to_torch: the layer is in training mode with use_batch_statistics=False, and "
            "no state of torch.nn.BatchNorm3d normalises by its statistics while it trains; "
            "call layer.set_train(False) first"
        )
    eps, kept = fixed_settings(layer)
    values = [to_torch_tensor(p) for p in (bn.gamma, bn.beta, bn.moving_mean, bn.moving_variance)]
    synchronised = isinstance(layer, SyncBatchNorm3d)
    module = (torch.nn.SyncBatchNorm if synchronised else torch.nn.BatchNorm3d)(
        bn.num_features,
        eps=eps,
        momentum=1 - kept,
        track_running_stats=bn.use_batch_statistics is not True,
        dtype=values[0].dtype,
    )
    with torch.no_grad():
        for tensor, value in zip(
            (module.weight, module.bias, module.running_mean, module.running_var),
            values,
            strict=True,
        ):
            if tensor is not None:
                tensor.copy_(value)
    module.weight.requires_grad_(bn.gamma.requires_grad)
    module.bias.requires_grad_(bn.beta.requires_grad)
    return module.train(bool(bn.training))


def _is_frozen(module, torch) -> bool:
    """Whether a module is a batch norm of constants, as detection networks have."""
    if not isinstance(module, torch.nn.Module) or list(module.parameters(recurse=False)):
        return False
    buffers = dict(module.named_buffers(recurse=False))
    return hasattr(module, "eps") and set(_AFFINE + _STATISTICS) <= buffers.keys()


def _check_module(module, frozen: bool, torch) -> None:
    if isinstance(module, torch.nn.LazyBatchNorm3d):
        raise ValueError(
            "bn3d.from_torch: 'module' is a LazyBatchNorm3d without a size; run it once first"
        )
    if not frozen and not isinstance(module, torch.nn.BatchNorm3d | torch.nn.SyncBatchNorm):
        raise TypeError(
            "bn3d.from_torch: 'module' must be a torch.nn.BatchNorm3d, SyncBatchNorm or a frozen "
            f"batch norm of four buffers, got {type(module).__module__}."
            f"{type(module).__qualname__}; for a whole network see bn3d.convert_state_dict"
        )
    for name in _AFFINE + _STATISTICS:
        tensor = getattr(module, name, None)
        if tensor is not None and tensor.device.type == "meta":
            raise ValueError(f"bn3d.from_torch: '{name}' is on the meta device and has no values")
    variance = getattr(module, "running_var", None)
    if variance is not None and np.any(to_numpy(variance) < 0):
        raise ValueError("bn3d.from_torch: 'running_var' has negative values")
