"""Which layers of PyTorch are batch norms over volumes, and their tensors."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from bn3d.migrate.arrays import to_numpy
from bn3d.migrate.pytorch import import_torch

if TYPE_CHECKING:
    import torch

__all__ = ["AFFINE", "STATISTICS", "check_module", "is_frozen", "tensors_of"]

AFFINE = ("weight", "bias")
STATISTICS = ("running_mean", "running_var")


def is_frozen(module: object) -> bool:
    """Whether a module is a batch norm of constants, as detection networks have, by its four
    buffers and a forward of its own.
    """
    torch = import_torch("bn3d.from_torch")
    if not isinstance(module, torch.nn.Module) or list(module.parameters(recurse=False)):
        return False
    buffers = dict(module.named_buffers(recurse=False))
    return (
        hasattr(module, "eps")
        and {*AFFINE, *STATISTICS} <= buffers.keys()
        and not (isinstance(module, _stock()) and _keeps_forward(module))
    )


def check_module(module: object, frozen: bool) -> None:
    """Raise TypeError for what is no batch norm, or more than one."""
    if frozen:
        _check_forward(module)
    elif not isinstance(module, _stock()):
        raise TypeError(
            "bn3d.from_torch: 'module' must be a torch.nn.BatchNorm3d, SyncBatchNorm or a frozen "
            f"batch norm of four buffers, got {type(module)}; for a whole network "
            "see bn3d.convert_state_dict"
        )
    elif not _keeps_forward(module):
        raise TypeError(
            f"bn3d.from_torch: 'module' is a {type(module).__qualname__} with a forward of its "
            "own, which a layer of bn3d would not have; for the normalisation alone load its "
            "state_dict() into a torch.nn.BatchNorm3d, and convert that"
        )


def _stock() -> tuple[type[torch.nn.Module], ...]:
    torch = import_torch("bn3d.from_torch")
    return (torch.nn.BatchNorm3d, torch.nn.LazyBatchNorm3d, torch.nn.SyncBatchNorm)


def _keeps_forward(module: torch.nn.Module) -> bool:
    torch = import_torch("bn3d.from_torch")
    return (
        type(module).forward in [each.forward for each in _stock()]
        and "forward" not in vars(module)
        and type(module).__call__ is torch.nn.Module.__call__
    )


def tensors_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The tensors that a batch norm has, of weight, bias, running_mean and running_var.

    Raises:
        TypeError: a dtype is not of floating point.
        ValueError: the module is lazy and has no size; tensors have no values, do not fit
            together, or a variance is negative.
    """
    torch = import_torch("bn3d.from_torch")

    def fail(error: type[Exception], text: str) -> None:
        raise error(f"bn3d.from_torch: {text}")

    if isinstance(module, torch.nn.modules.lazy.LazyModuleMixin) and (
        module.has_uninitialized_params() or not _size(module)
    ):
        fail(ValueError, "'module' is lazy and without a size; run it once first")
    with torch.enable_grad():  # a parametrized weight is computed here
        found = {name: getattr(module, name, None) for name in (*AFFINE, *STATISTICS)}
    tensors = {name: tensor for name, tensor in found.items() if tensor is not None}
    for name, tensor in tensors.items():
        if tensor.device.type == "meta":
            fail(ValueError, f"'{name}' is on the meta device and has no values")
        if not tensor.dtype.is_floating_point:
            fail(TypeError, f"'{name}' must be of floating point, got {tensor.dtype}")
        if tensor.shape != (_size(module),):
            shape = tuple(tensor.shape)
            fail(ValueError, f"'{name}' must have shape ({_size(module)},), got {shape}")
    if len(tensors.keys() & set(STATISTICS)) == 1:
        fail(ValueError, "'module' has only one of 'running_mean' and 'running_var'")
    if "running_var" in tensors and np.any(to_numpy(tensors["running_var"]) < 0):
        fail(ValueError, "'running_var' has negative values")
    return tensors


def _size(module: torch.nn.Module) -> int:
    """How many channels a batch norm has: a frozen one may say it by its buffers alone."""
    for name in (*AFFINE, *STATISTICS):
        tensor = getattr(module, name, None)
        if tensor is not None and tensor.dim() == 1:
            return len(tensor)
    return getattr(module, "num_features", 0)


def _check_forward(module: Any) -> None:
    """Raise TypeError for a frozen batch norm that computes something else: a class that has the
    four buffers may do anything with them.
    """
    torch = import_torch("bn3d.from_torch")
    tensors = tensors_of(module)
    weight, bias, mean, variance = (
        to_numpy(tensors[name]).astype(np.float64)[:, None] for name in (*AFFINE, *STATISTICS)
    )
    deviation = np.sqrt(variance + float(module.eps))
    given = torch.tensor(mean + deviation * np.linspace(-3, 3, 7))
    given = given.to(tensors["weight"].device, _common_dtype(tensors))
    x = to_numpy(given).astype(np.float64)  # rounded
    with np.errstate(all="ignore"):
        wanted = weight * (x - mean) / deviation + bias
        scale = np.abs(weight) * (np.abs(mean) / deviation + 3) + np.abs(bias)
    tolerance = 16 * torch.finfo(given.dtype).eps * scale
    does = "does more than to normalise by its four buffers"
    try:
        if all(
            y.size == wanted.size and np.all(np.abs(y.reshape(wanted.shape) - wanted) <= tolerance)
            for y in _outputs(module, given)
        ):
            return
    except Exception as error:  # it may raise anything
        does = f"does not run ({error!r})"
    raise TypeError(
        f"bn3d.from_torch: 'module' is a {type(module).__qualname__} whose forward {does}; for the "
        "normalisation alone copy the buffers into a torch.nn.BatchNorm3d in evaluation mode, and "
        "convert that"
    )


def _outputs(module: torch.nn.Module, x: torch.Tensor) -> Iterator[np.ndarray]:
    """What a module makes of x (C, n) in evaluation and in training, without changing it. One for
    2-D is as good as one for 3-D.
    """
    torch = import_torch("bn3d.from_torch")
    volume = x.reshape(1, *x.shape, 1, 1)
    module = copy.deepcopy(module)
    for training in (False, True):
        module.train(training)
        with torch.no_grad():
            try:
                y = module.forward(volume.clone())
            except Exception:  # it may raise anything; what it raises now is told
                y = module.forward(volume[..., 0].clone())
        yield to_numpy(y).astype(np.float64)


def _common_dtype(tensors: dict[str, torch.Tensor]) -> torch.dtype:
    torch = import_torch("bn3d.from_torch")
    return functools.reduce(torch.promote_types, [tensor.dtype for tensor in tensors.values()])
