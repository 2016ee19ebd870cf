"""The state of a whole network from MindSpore back to PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from mindspore import Parameter, nn

from bn3d.migrate import files
from bn3d.migrate.arrays import dtype_name, to_numpy, to_torch_tensor
from bn3d.migrate.contents import hint_at_key, hint_at_names, is_meant, state_dict_in
from bn3d.migrate.pytorch import import_torch
from bn3d.migrate.report import Conversion, Mapped
from bn3d.migrate.rules import COUNT, NamingRules, Slot, compile_rules, rename, slots
from bn3d.networks.cells import check_net

if TYPE_CHECKING:
    import torch

__all__ = ["to_torch_state_dict"]


def to_torch_state_dict(
    net: nn.Cell,
    *,
    checkpoint: str | PathLike[str] | None = None,
    like: torch.nn.Module | Mapping[str, Any] | None = None,
    output: str | PathLike[str] | None = None,
    rules: NamingRules = (),
    partial: bool = False,
) -> Conversion:
    """Convert the parameters of a network to a state dict of PyTorch.

    Args:
        net: the network in MindSpore.
        checkpoint: a checkpoint of MindSpore, .ckpt or safetensors by any name, whose values
            are taken instead of the network's own.
        like: the `torch.nn.Module`, or its state dict, that the result is for; names and
            shapes are checked against it. None: the result is not checked.
        output: file to write, complete or not at all: .safetensors, or as `torch.save` does
            .pt, .pth, .bin, .pyth, .pth.tar or .pt.tar.
        rules: (pattern, replacement) regular expressions, applied to PyTorch's names as
            they follow from the network, one after the other.
        partial: convert what fits, and report the rest, instead of an error.

    What PyTorch's layer does not have is dropped: statistics of a layer with
    `use_batch_statistics=True` (`track_running_stats=False`), gamma of 1 and beta of 0 that are
    not trained (`affine=False`, `bias=False`). Without `like` that is a guess where they were
    frozen; with it they are dropped only where it does not have them.

    Returns:
        What became of every parameter, and the tensors: `module.load_state_dict(c.tensors)`.

    Raises:
        ConversionError: something is missing, unexpected or does not fit, and not `partial`; or
            nothing fits.
        OSError, TypeError, ValueError: bad arguments, unreadable files.
        ImportError: PyTorch is not installed.

    Supported Platforms:
        ``Ascend`` ``CPU``

    Examples:
        >>> net = nn.SequentialCell(nn.Conv3d(1, 8, 3, has_bias=True), bn3d.BatchNorm3d(8))
        >>> module = torch.nn.Sequential(torch.nn.Conv3d(1, 8, 3), torch.nn.BatchNorm3d(8))
        >>> module.load_state_dict(bn3d.to_torch_state_dict(net, like=module).tensors)
        <All keys matched successfully>
    """
    torch = import_torch("bn3d.to_torch_state_dict")
    check_net(net)
    if not isinstance(partial, bool):
        raise TypeError(f"'partial' must be a bool, got {partial!r} ({type(partial).__name__})")
    patterns = compile_rules(rules)
    if output is not None:
        files.check_output(output, files.TORCH_SUFFIXES)
    values = None if checkpoint is None else _read(checkpoint)
    wanted = like.state_dict() if isinstance(like, torch.nn.Module) else like
    if wanted is not None:
        wanted = _checked(wanted)

    conversion = Conversion()
    reached, read = set(), set()
    for slot in slots(net):
        name = slot.parameter.name
        read.add(name)
        if slot.torch_name is None:
            conversion.mismatched[name] = slot.reason
            continue
        torch_name = rename(slot.torch_name, patterns)
        count = torch_name.removesuffix("running_var") + COUNT
        reached.update([torch_name, count] if slot.counts else [torch_name])
        value = slot.parameter if values is None else values.get(name)
        absent = wanted is None or torch_name not in wanted
        if value is None:
            conversion.missing[torch_name] = f"{name} is not in {checkpoint}"
        elif absent and _is_constant(slot, values):
            conversion.dropped.append(name)
        elif wanted is not None and absent:
            conversion.unexpected.append(name)
        elif reason := _misfit(value.shape, slot.parameter.shape) or (
            wanted is not None and _misfit(slot.torch_shape, wanted[torch_name].shape)
        ):
            conversion.mismatched[name] = reason
        else:
            tensor = to_torch_tensor(value).reshape(slot.torch_shape)
            conversion.tensors[torch_name] = tensor
            conversion.mapped.append(Mapped(name, torch_name, slot.torch_shape, dtype_name(tensor)))
            if slot.counts:
                conversion.tensors[count] = torch.tensor(0)
    conversion.unexpected += [name for name in values or () if name not in read]
    _compare(conversion, wanted, reached)
    conversion.check(partial)
    if output is not None:
        files.write_torch(conversion.tensors, output)
    return conversion


def _read(checkpoint: object) -> dict[str, Parameter]:
    if not isinstance(checkpoint, str | PathLike):
        raise TypeError(
            f"'checkpoint' must be a path, got {type(checkpoint).__name__}; values in memory "
            "are loaded into 'net' first: mindspore.load_param_into_net"
        )
    return files.read_checkpoint(checkpoint)


def _checked(like: object) -> dict[str, Any]:
    if not isinstance(like, Mapping):
        raise TypeError(f"'like' must be a torch.nn.Module, or its state dict, got {type(like)}")
    entries = state_dict_in(like, None, "'like'")
    uninitialized = import_torch("'like'").nn.parameter.UninitializedTensorMixin
    for name, value in entries.items():
        if isinstance(value, uninitialized):
            raise ValueError(
                f"'like': {name} is lazy and has no shape yet; run the module once first"
            )
    return entries


def _is_constant(slot: Slot, values: Mapping[str, Parameter] | None) -> bool:
    """Whether a layer of PyTorch without this tensor computes the same."""
    if slot.absent is None:
        return False
    if slot.unused:
        return True
    value = slot.parameter if values is None else values.get(slot.parameter.name)
    if value is None or not np.all(to_numpy(value) == slot.absent):
        return False
    return slot.bias is None or _is_constant(slot.bias, values)


def _compare(conversion: Conversion, wanted: Mapping[str, Any] | None, reached: set[str]) -> None:
    """Report what the module has and the network does not give; drop counts it does not have,
    and give it its own extra state back: `load_state_dict` asks for it.
    """
    if wanted is None:
        return
    for name, value in wanted.items():
        if name in conversion.tensors or name in reached:
            continue
        if is_meant(name, value):
            conversion.missing[name] = "no parameter of the network belongs there"
        else:
            conversion.tensors[name] = value
    for name in [name for name in conversion.tensors if name not in wanted]:
        del conversion.tensors[name]
    if not conversion.complete:
        names = [name for name, value in wanted.items() if is_meant(name, value)]
        conversion.hint = hint_at_names(reached, names) or hint_at_key(wanted)


def _misfit(got: tuple[int, ...], wanted: tuple[int, ...]) -> str | None:
    got, wanted = tuple(got), tuple(wanted)
    return None if got == wanted else f"has shape {got}, its place {wanted}"
