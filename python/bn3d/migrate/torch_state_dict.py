"""The state of a whole network from MindSpore back to PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

from mindspore import nn

from bn3d.cells import check_net
from bn3d.migrate import files
from bn3d.migrate.arrays import dtype_name, to_torch_tensor
from bn3d.migrate.pytorch import import_torch
from bn3d.migrate.report import Conversion, Mapped
from bn3d.migrate.rules import COUNT, NamingRules, compile_rules, rename, slots

__all__ = ["to_torch_state_dict"]


def to_torch_state_dict(
    net: nn.Cell,
    *,
    checkpoint: str | PathLike | None = None,
    like: Any = None,
    output: str | PathLike | None = None,
    rules: NamingRules = (),
    partial: bool = False,
) -> Conversion:
    """Convert the parameters of a network to a state dict of PyTorch.

    Args:
        net: the network in MindSpore.
        checkpoint: .ckpt file whose values are taken instead of the network's own.
        like: the `torch.nn.Module`, or its state dict, that the result is for; names and
            shapes are checked against it. None: the result is not checked.
        output: .pt, .pth or .safetensors file to write; complete or not at all.
        rules: (pattern, replacement) regular expressions, applied to PyTorch's names as
            they follow from the network, one after the other.
        partial: convert what fits, and report the rest, instead of an error.

    Returns:
        What became of every parameter, and the tensors: `module.load_state_dict(c.tensors)`.

    Raises:
        ConversionError: something is missing, unexpected or does not fit, and not `partial`.
        FileNotFoundError, TypeError, ValueError: bad arguments, unreadable files.
        ImportError: PyTorch is not installed.
    """
    torch = import_torch("bn3d.to_torch_state_dict")
    check_net(net)
    patterns = compile_rules(rules)
    if output is not None:
        files.check_output(output, files.TORCH_SUFFIXES)
    values = None if checkpoint is None else files.read_checkpoint(checkpoint)
    wanted = like.state_dict() if isinstance(like, torch.nn.Module) else like
    if wanted is not None:
        files.check_tensors(wanted, "'like'")

    conversion = Conversion()
    reached, read = set(), set()
    for slot in slots(net):
        name = slot.parameter.name
        read.add(name)
        if slot.torch_name is None:
            conversion.mismatched[name] = slot.reason
            continue
        torch_name = rename(slot.torch_name, patterns)
        reached.add(torch_name)
        value = slot.parameter if values is None else values.get(name)
        if value is None:
            conversion.missing[torch_name] = f"{name} is not in {checkpoint}"
        elif wanted is not None and torch_name not in wanted:
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
                count = torch_name.removesuffix("running_var") + COUNT
                conversion.tensors[count] = torch.tensor(0)
    conversion.unexpected += [name for name in values or () if name not in read]
    _compare(conversion, wanted, reached)
    conversion.check(partial)
    if output is not None:
        files.write_torch(conversion.tensors, output)
    return conversion


def _compare(conversion: Conversion, wanted: Mapping[str, Any] | None, reached: set[str]) -> None:
    """Report what the module has and the network does not give; drop counts it does not have."""
    if wanted is None:
        return
    for name in wanted:
        if name not in conversion.tensors and name not in reached:
            conversion.missing[name] = "no parameter of the network belongs there"
    for name in [name for name in conversion.tensors if name not in wanted]:
        del conversion.tensors[name]


def _misfit(got, wanted) -> str | None:
    got, wanted = tuple(got), tuple(wanted)
    return None if got == wanted else f"has shape {got}, its place {wanted}"
