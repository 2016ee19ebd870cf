"""One batch norm layer from PyTorch to MindSpore and back."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any

import mindspore as ms
from mindspore import Parameter, nn

from bn3d.layers.batch_norm import BatchNorm3d
from bn3d.layers.state import fixed_settings
from bn3d.layers.sync_batch_norm import SyncBatchNorm3d
from bn3d.layers.torch_arguments import from_torch_style
from bn3d.migrate import extras
from bn3d.migrate.arrays import from_torch_tensor, to_torch_tensor
from bn3d.migrate.pytorch import import_torch
from bn3d.migrate.torch_layer import AFFINE, STATISTICS, check_module, is_frozen, tensors_of

if TYPE_CHECKING:
    import torch

__all__ = ["from_torch", "to_torch"]

_PARAMETERS = dict(
    zip((*AFFINE, *STATISTICS), ("gamma", "beta", "moving_mean", "moving_variance"), strict=True)
)


def from_torch(module: torch.nn.Module, *, momentum: float | None = None) -> BatchNorm3d:
    """The `bn3d.BatchNorm3d` that computes what a layer of PyTorch computes; for a SyncBatchNorm
    it is a `bn3d.SyncBatchNorm3d` over all devices.

    Parameters and statistics (C,) are copied, each with its dtype; a weight that is not trained
    stays so; training or evaluation mode is that of the module. What does not come along (hooks,
    parametrizations, a method `train` of a subclass, a process group) is warned of.

    | PyTorch                           | here                                              |
    |-----------------------------------|---------------------------------------------------|
    | tracks statistics                 | `use_batch_statistics=None`                       |
    | has none                          | `use_batch_statistics=True`                       |
    | has some and stopped tracking     | `use_batch_statistics=None`, momentum=1           |
    | Frozen...BatchNorm, buffers only  | `use_batch_statistics=False`, nothing is trained  |

    Args:
        module: `torch.nn.BatchNorm3d`, `torch.nn.SyncBatchNorm` or a subclass that keeps their
            `forward`, or a frozen batch norm: one that holds weight, bias, running_mean and
            running_var as buffers, and normalises by them.
        momentum: PyTorch's, the weight of the new value, in place of the module's own; a
            module with momentum None that tracks statistics needs it.

    Raises:
        ImportError: PyTorch is not installed.
        TypeError: `module` is not one of these, has a `forward` of its own, or tensors of a dtype
            that is no floating-point one of MindSpore.
        ValueError: momentum is None or out of range; the module is lazy and has no size yet, or
            its tensors are on "meta" or do not fit together.

    Supported Platforms:
        ``Ascend`` ``CPU``

    Examples:
        >>> bn3d.from_torch(torch.nn.BatchNorm3d(8, momentum=0.3)).bn2d.moving_mean.shape
        (8,)
    """
    torch = import_torch("bn3d.from_torch")
    frozen = is_frozen(module)
    check_module(module, frozen)
    tensors = tensors_of(module)
    norm: Any = module  # PyTorch says Tensor or Module of what it does not know
    kept: float = 1.0
    use_batch_statistics: bool | None = False
    if not frozen:
        kept, use_batch_statistics = from_torch_style(
            norm.momentum if momentum is None else momentum,
            bool(norm.track_running_stats),
            "running_mean" in tensors,
        )
    synchronised = isinstance(module, torch.nn.SyncBatchNorm)
    layer = (SyncBatchNorm3d if synchronised else BatchNorm3d)(
        len(next(iter(tensors.values()))) if tensors else norm.num_features,
        float(norm.eps),
        kept,
        use_batch_statistics=use_batch_statistics,
        dtype=from_torch_tensor(next(iter(tensors.values()))).dtype if tensors else ms.float32,
    )
    for name, ours in _PARAMETERS.items():
        parameter = getattr(layer.bn2d, ours)
        if name in tensors:
            value = from_torch_tensor(tensors[name])
            parameter.set_dtype(value.dtype)
            parameter.set_data(value)
        if name in AFFINE:
            parameter.requires_grad = name in tensors and tensors[name].requires_grad
    layer.set_train(module.training)
    for left in extras.of_module(module):
        warnings.warn(f"bn3d.from_torch: {left}", stacklevel=2)
    return layer


def to_torch(layer: nn.BatchNorm3d) -> torch.nn.BatchNorm3d | torch.nn.SyncBatchNorm:
    """The `torch.nn.BatchNorm3d` that computes what a layer of MindSpore computes; for a
    `bn3d.SyncBatchNorm3d` it is a SyncBatchNorm over all processes.

    Its parameters and statistics (C,) have one dtype, the least that holds those of all four
    parameters here: PyTorch's layer refuses to compute with several. What does not come along
    (hooks, `to_float`, process groups) is warned of.

    Args:
        layer: `bn3d.BatchNorm3d`, or a stock `mindspore.nn.BatchNorm3d` with a child bn2d, or a
            subclass that keeps their `construct`.

    Raises:
        ImportError: PyTorch is not installed.
        TypeError: `layer` is not one of these, or has a `construct` of its own.
        ValueError: `use_batch_statistics` is False and the layer in training mode: no state
            of PyTorch's layer normalises by the statistics while it trains; `set_train(False)`
            first.

    Supported Platforms:
        ``Ascend`` ``CPU``

    Examples:
        >>> bn3d.to_torch(bn3d.BatchNorm3d(8)).running_var.shape
        torch.Size([8])
    """
    torch = import_torch("bn3d.to_torch")
    extras.check_layer(layer)
    bn = layer.bn2d
    if bn.use_batch_statistics is False and bn.training:
        raise ValueError(
            "bn3d.to_torch: the layer is in training mode with use_batch_statistics=False, and "
            "no state of torch.nn.BatchNorm3d normalises by its statistics while it trains; "
            "call layer.set_train(False) first"
        )
    eps, kept = fixed_settings(layer)
    parameters: dict[str, Parameter] = {n: getattr(bn, ours) for n, ours in _PARAMETERS.items()}
    values = {name: to_torch_tensor(parameter) for name, parameter in parameters.items()}
    dtype = functools.reduce(torch.promote_types, [value.dtype for value in values.values()])
    synchronised = isinstance(layer, SyncBatchNorm3d)
    module = (torch.nn.SyncBatchNorm if synchronised else torch.nn.BatchNorm3d)(
        bn.num_features,
        eps=eps,
        momentum=1 - kept,
        track_running_stats=bn.use_batch_statistics is not True,
        dtype=dtype,
    )
    with torch.no_grad():
        for name, value in values.items():
            tensor = getattr(module, name)
            if tensor is not None:
                tensor.copy_(value)
    for name in AFFINE:
        getattr(module, name).requires_grad_(parameters[name].requires_grad)
    for left in extras.of_layer(layer):
        warnings.warn(f"bn3d.to_torch: {left}", stacklevel=2)
    return module.train(bool(bn.training))
