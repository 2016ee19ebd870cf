"""What layers have beside a batch norm, which does not come along to the other framework."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mindspore import nn

from bn3d.layers.batch_norm import BatchNorm3d
from bn3d.layers.child import BatchNorm2d
from bn3d.layers.sync_batch_norm import SyncBatchNorm3d
from bn3d.migrate.pytorch import import_torch
from bn3d.migrate.torch_layer import AFFINE, STATISTICS
from bn3d.mindspore_private import hooks, precision

if TYPE_CHECKING:
    import torch

__all__ = ["check_layer", "of_layer", "of_module"]

_MODULE_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
_TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


def of_module(module: torch.nn.Module) -> Iterator[str]:
    """A sentence for each thing that a batch norm of PyTorch loses on the way."""
    torch = import_torch("bn3d.from_torch")
    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    sizing = getattr(getattr(module, "_initialize_hook", None), "id", None)  # of a lazy module
    if any(set(getattr(module, name)) - {sizing} for name in _MODULE_HOOKS):
        yield f"the hooks of the {kind} are left behind"
    for name in (*AFFINE, *STATISTICS):
        tensor = getattr(module, name, None)
        if tensor is None:
            continue
        if not (name in module._parameters or name in module._buffers):
            yield (
                f"'{name}' of the {kind} is computed, by a parametrization for example; its value "
                "of now is taken, and how it is computed is left behind"
            )
        elif any(getattr(tensor, hooks, None) for hooks in _TENSOR_HOOKS):
            yield f"the hooks of '{name}' of the {kind} are left behind"
    if type(module).train is not torch.nn.Module.train:
        yield f"the {kind} has a method train of its own, which is left behind"
    if getattr(module, "process_group", None) is not None:
        yield (
            f"the {kind} has a process group of PyTorch, the SyncBatchNorm3d made from it spans "
            "all devices"
        )


def check_layer(layer: object) -> None:
    """Raise TypeError for what is no batch norm of MindSpore over volumes, or more than one."""
    inner = getattr(layer, "bn2d", None)
    if not isinstance(layer, nn.BatchNorm3d) or not isinstance(inner, nn.BatchNorm2d):
        raise TypeError(
            "bn3d.to_torch: 'layer' must be a BatchNorm3d of bn3d or mindspore.nn with a child "
            f"bn2d, got {type(layer)}"
        )
    own = None
    if _has_own_construct(layer, BatchNorm3d, nn.BatchNorm3d):
        own = layer
    elif type(layer).construct is nn.BatchNorm3d.construct:  # it calls its bn2d, ours does not
        own = inner if _has_own_construct(inner, nn.BatchNorm2d, BatchNorm2d) else None
    if own is not None:
        raise TypeError(
            "bn3d.to_torch: 'layer' computes with a "
            f"{type(own).__module__}.{type(own).__qualname__}, which has a construct of its own, "
            "and a module of PyTorch would not have that; for the normalisation alone load the "
            "parameters into a bn3d.BatchNorm3d, and convert that"
        )


def _has_own_construct(cell: nn.Cell, *kinds: type[nn.Cell]) -> bool:
    known = [kind.construct for kind in kinds]
    return "construct" in vars(cell) or type(cell).construct not in known


def of_layer(layer: nn.BatchNorm3d) -> Iterator[str]:
    """A sentence for each thing that a batch norm of MindSpore loses on the way."""
    kind = f"{type(layer).__module__}.{type(layer).__qualname__}"
    if hooks.has_any(layer):
        yield f"the hooks of the {kind} are left behind"
    if precision.is_mixed(layer):
        yield f"the to_float of the {kind} is left behind"
    if isinstance(layer, SyncBatchNorm3d) and layer.process_groups is not None:
        yield (
            f"the {kind} has process groups of MindSpore, the SyncBatchNorm made from it spans "
            "all processes"
        )
