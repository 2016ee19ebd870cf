"""The state of a whole network from PyTorch to MindSpore and back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from os import PathLike
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, nn

from bn3d.migrate import files
from bn3d.migrate.arrays import dtype_name, to_numpy, to_torch_tensor
from bn3d.migrate.pytorch import import_torch
from bn3d.migrate.report import Conversion, ConversionError, Mapped
from bn3d.migrate.rules import NamingRules, Slot, compile_rules, rename, slots

__all__ = ["convert_state_dict", "to_torch_state_dict"]

_COUNT = "num_batches_tracked"


def convert_state_dict(
    source: str | PathLike | Mapping[str, Any],
    net: nn.Cell,
    *,
    output: str | PathLike | None = None,
    rules: NamingRules = (),
    key: str | None = None,
    partial: bool = False,
) -> Conversion:
    """Convert a state dict of PyTorch to parameters of MindSpore.

    The network only tells names, shapes and dtypes; it is not changed. Load the result with
    `mindspore.load_param_into_net(net, conversion.tensors, strict_load=True)`, or the file
    written to `output` with `mindspore.load_checkpoint(output, net, strict_load=True)`:
    without strict_load MindSpore fills what is missing with parameters of similar names.

    Args:
        source: a .pt or .pth file (read with `weights_only=True`), a .safetensors file, or
            a mapping of names to tensors of PyTorch or NumPy.
        net: the network in MindSpore.
        output: .ckpt file to write; complete or not at all.
        rules: (pattern, replacement) regular expressions, applied to PyTorch's names with
            `re.sub`, one after the other: ("^module\\\\.", "") for example. A name may
            become that of PyTorch at the same place, or that of the MindSpore parameter.
        key: where in the file the state dict is, if it holds more than that: "state_dict".
        partial: convert what fits, and report the rest, instead of an error.

    Returns:
        What became of every tensor, and the Parameters.

    Raises:
        ConversionError: something is missing, unexpected or does not fit, and not `partial`.
        FileNotFoundError, TypeError, ValueError: bad arguments, unreadable files.
        ImportError: `source` is a .pt or .pth file and PyTorch is not installed.
    """
    _check_net(net)
    patterns = compile_rules(rules)
    if output is not None:
        files.check_output(output, files.MINDSPORE_SUFFIXES)
    state = files.read_torch(source, key) if not isinstance(source, Mapping) else source
    files.check_tensors(state, "'source'")
    conversion = Conversion()

    by_name = defaultdict(list)
    unknown = {}
    for slot in slots(net):
        names = {slot.torch_name, slot.parameter.name} - {None}
        for name in names:
            by_name[name].append(slot)
        if slot.torch_name is None:
            unknown[slot.parameter.name] = slot.reason

    taken: dict[str, str] = {}
    for source_name, tensor in state.items():
        name = rename(source_name, patterns)
        # Without a rule of ours the same name is not enough, a rule of the user's is.
        places = [slot for slot in by_name.get(name, ()) if slot.torch_name or name != source_name]
        if not places:
            if name.rpartition(".")[2] == _COUNT:
                conversion.dropped.append(source_name)
            else:
                conversion.unexpected.append(source_name)
            continue
        for slot in places:
            _place(source_name, tensor, slot, taken, state, conversion)

    for slot in slots(net):
        name = slot.parameter.name
        if name not in taken and not slot.optional:
            conversion.missing.setdefault(name, unknown.get(name, f"{slot.torch_name} is not there"))
    for mismatched in conversion.mismatched:
        for slot in by_name[rename(mismatched, patterns)]:
            conversion.missing.pop(slot.parameter.name, None)
    _finish(conversion, partial)
    if output is not None:
        files.write_checkpoint(conversion.tensors, output)
    return conversion


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
    _check_net(net)
    patterns = compile_rules(rules)
    if output is not None:
        files.check_output(output, files.TORCH_SUFFIXES)
    values = None if checkpoint is None else files.read_checkpoint(checkpoint)
    wanted = like.state_dict() if isinstance(like, torch.nn.Module) else like
    conversion = Conversion()
    used = set()
    for slot in slots(net):
        name = slot.parameter.name
        used.add(name)
        if slot.torch_name is None:
            conversion.mismatched[name] = slot.reason
            continue
        value = slot.parameter if values is None else values.get(name)
        torch_name = rename(slot.torch_name, patterns)
        if value is None:
            conversion.missing[torch_name] = f"{name} is not in {checkpoint}"
            continue
        if tuple(value.shape) != tuple(slot.parameter.shape):
            conversion.mismatched[name] = _shapes(value.shape, slot.parameter.shape)
            continue
        tensor = to_torch_tensor(value).reshape(slot.torch_shape)
        if wanted is not None and torch_name not in wanted:
            conversion.unexpected.append(name)
            continue
        if wanted is not None and tuple(wanted[torch_name].shape) != slot.torch_shape:
            conversion.mismatched[name] = _shapes(slot.torch_shape, wanted[torch_name].shape)
            continue
        conversion.tensors[torch_name] = tensor
        conversion.mapped.append(
            Mapped(name, torch_name, slot.torch_shape, dtype_name(tensor))
        )
        if slot.counts:
            count = torch_name.removesuffix("running_var") + _COUNT
            if wanted is None or count in wanted:
                conversion.tensors[count] = torch.tensor(0)
    if values is not None:
        conversion.unexpected += [name for name in values if name not in used]
    for name in wanted or ():
        failed = any(rename(s.torch_name or "", patterns) == name for s in slots(net))
        if name not in conversion.tensors and not failed:
            conversion.missing.setdefault(name, "no parameter of the network belongs there")
    _finish(conversion, partial)
    if output is not None:
        files.write_torch(conversion.tensors, output)
    return conversion


def _place(source_name, tensor, slot: Slot, taken, state, conversion: Conversion) -> None:
    """Put a tensor into the place of a parameter, or say why not."""
    parameter = slot.parameter
    if tuple(tensor.shape) != slot.torch_shape:
        conversion.mismatched[source_name] = _shapes(tensor.shape, slot.torch_shape)
        return
    array = to_numpy(tensor)
    if parameter.name in taken:  # a parameter that is shared: PyTorch lists it at each place
        other = taken[parameter.name]
        if not np.array_equal(to_numpy(state[other]), array):
            conversion.mismatched[source_name] = (
                f"{parameter.name} is one parameter here, and {other} has other values for it"
            )
        return
    value = ms.Tensor(array.reshape(parameter.shape)).astype(parameter.dtype)
    if np.isfinite(array).all() and not np.isfinite(to_numpy(value)).all():
        conversion.mismatched[source_name] = f"has values beyond {dtype_name(parameter)}"
        return
    taken[parameter.name] = source_name
    before, after = dtype_name(tensor), dtype_name(parameter)
    conversion.tensors[parameter.name] = Parameter(
        value, name=parameter.name, requires_grad=parameter.requires_grad
    )
    conversion.mapped.append(
        Mapped(
            source_name,
            parameter.name,
            tuple(parameter.shape),
            after,
            before if before != after else None,
        )
    )


def _finish(conversion: Conversion, partial: bool) -> None:
    if not conversion.complete and not partial:
        conversion.tensors = {}
        raise ConversionError(conversion)


def _shapes(got, wanted) -> str:
    return f"has shape {tuple(got)}, its place {tuple(wanted)}"


def _check_net(net) -> None:
    if not isinstance(net, nn.Cell):
        raise TypeError(f"'net' must be a mindspore.nn.Cell, got {type(net).__name__}")


