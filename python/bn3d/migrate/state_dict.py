"""The state of a whole network from PyTorch to MindSpore."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from os import PathLike
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, nn

from bn3d.cells import check_net
from bn3d.migrate import files
from bn3d.migrate.arrays import dtype_name, to_numpy
from bn3d.migrate.report import Conversion, Mapped
from bn3d.migrate.rules import COUNT, NamingRules, Slot, compile_rules, rename, slots

__all__ = ["convert_state_dict"]


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
            a mapping of names to tensors of PyTorch or NumPy, or one that has such under `key`.
        net: the network in MindSpore.
        output: .ckpt file to write; complete or not at all.
        rules: (pattern, replacement) regular expressions, applied to PyTorch's names with
            `re.sub`, one after the other: ("^module[.]", "") for example. A name may become
            that of PyTorch at the same place, or that of the MindSpore parameter.
        key: where in `source` the state dict is, if that holds more: "state_dict".
        partial: convert what fits, and report the rest, instead of an error.

    Returns:
        What became of every tensor, and the Parameters.

    Raises:
        ConversionError: something is missing, unexpected or does not fit, and not `partial`.
        FileNotFoundError, TypeError, ValueError: bad arguments, unreadable files.
        ImportError: `source` is a .pt or .pth file and PyTorch is not installed.
    """
    check_net(net)
    patterns = compile_rules(rules)
    if output is not None:
        files.check_output(output, files.MINDSPORE_SUFFIXES)
    if isinstance(source, Mapping):
        state = files.state_dict_in(source, key, "'source'")
    else:
        state = files.read_torch(source, key)
    conversion = _Matching(state, list(slots(net))).convert(patterns)
    conversion.check(partial)
    if output is not None:
        files.write_checkpoint(conversion.tensors, output)
    return conversion


class _Matching:
    """Brings the tensors of a state dict and the places of a network together."""

    def __init__(self, state: Mapping[str, Any], places: list[Slot]):
        self.state = state
        self.places = places
        self.conversion = Conversion()
        self.by_name = defaultdict(list)
        for slot in places:
            for name in {slot.torch_name, slot.parameter.name} - {None}:
                self.by_name[name].append(slot)
        self.taken: dict[str, str] = {}  # parameter -> the tensor that it got
        self.refused: set[str] = set()  # parameters whose tensor does not fit

    def convert(self, patterns) -> Conversion:
        report = self.conversion
        for source in self.state:
            name = rename(source, patterns)
            # Without a rule of ours the same name is not enough, a rule of the user's is.
            found = [s for s in self.by_name.get(name, ()) if s.torch_name or name != source]
            for slot in found:
                reason = self._place(source, slot)
                if reason is not None:
                    report.mismatched[source] = reason
                    self.refused.add(slot.parameter.name)
            if not found:
                nowhere = report.dropped if name.split(".")[-1] == COUNT else report.unexpected
                nowhere.append(source)
        for slot in self.places:
            name = slot.parameter.name
            if not (name in self.taken or name in self.refused or slot.optional):
                report.missing[name] = slot.reason or f"{slot.torch_name} is not there"
        return report

    def _place(self, source: str, slot: Slot) -> str | None:
        """Put a tensor into the place of a parameter, or say why not."""
        tensor, parameter = self.state[source], slot.parameter
        if tuple(tensor.shape) != slot.torch_shape:
            return f"has shape {tuple(tensor.shape)}, its place {slot.torch_shape}"
        try:
            array = _real_values(tensor)
        except (TypeError, RuntimeError) as error:  # PyTorch's, for the sparse and those on "meta"
            return f"cannot be read: {error}"
        if parameter.name in self.taken:  # a shared one: PyTorch lists it at each place
            other = self.taken[parameter.name]
            if np.array_equal(to_numpy(self.state[other]), array, equal_nan=True):
                return None
            return f"{parameter.name} is one parameter here, and {other} has other values for it"
        value = ms.Tensor(array.reshape(parameter.shape)).astype(parameter.dtype)
        if np.isfinite(array).all() and not np.isfinite(to_numpy(value)).all():
            return f"has values beyond {dtype_name(parameter)}"
        self.taken[parameter.name] = source
        self.conversion.tensors[parameter.name] = Parameter(
            value, name=parameter.name, requires_grad=parameter.requires_grad
        )
        before, after = dtype_name(tensor), dtype_name(parameter)
        self.conversion.mapped.append(
            Mapped(
                source,
                parameter.name,
                tuple(parameter.shape),
                after,
                before if before != after else None,
            )
        )
        return None


def _real_values(tensor: Any) -> np.ndarray:
    array = to_numpy(tensor)
    if np.iscomplexobj(array):
        raise TypeError(f"dtype {dtype_name(tensor)} would lose its imaginary part")
    return array
