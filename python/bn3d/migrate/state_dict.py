"""The state of a whole network from PyTorch to MindSpore."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from os import PathLike
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, nn

from bn3d.migrate import files
from bn3d.migrate.arrays import dtype_name, to_numpy
from bn3d.migrate.contents import hint_at_key, hint_at_names, is_meant, is_tensor, state_dict_in
from bn3d.migrate.report import Conversion, Mapped
from bn3d.migrate.rules import COUNT, NamingRules, Slot, compile_rules, rename, slots
from bn3d.networks.cells import check_net

__all__ = ["convert_state_dict"]


def convert_state_dict(
    source: str | PathLike[str] | Mapping[str, Any],
    net: nn.Cell,
    *,
    output: str | PathLike[str] | None = None,
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
        source: a file of `torch.save` (read with `weights_only=True`) or of safetensors, by
            any name, or a mapping of names to tensors of PyTorch or NumPy; or either with such
            a mapping under `key`. What is no tensor is dropped.
        net: the network in MindSpore.
        output: .ckpt file to write; complete or not at all.
        rules: (pattern, replacement) regular expressions, applied to PyTorch's names with
            `re.sub`, one after the other: ("^module[.]", "") for example. A name may become
            that of PyTorch at the same place, or that of the MindSpore parameter.
        key: where in `source` the state dict is, if that holds more: "state_dict"; a path
            goes deeper: "ema.model".
        partial: convert what fits, and report the rest, instead of an error.

    What PyTorch's layer does not have, because it is built with `affine=False`, `bias=False` or
    `track_running_stats=False`, gets the value that it stands for, where the layer here is built
    alike: gamma and beta that are not trained, `use_batch_statistics=True`.

    Returns:
        What became of every tensor, and the Parameters.

    Raises:
        ConversionError: something is missing, unexpected or does not fit, and not `partial`; or
            nothing fits.
        OSError, TypeError, ValueError: bad arguments, unreadable files.
        ImportError: `source` is a file of `torch.save` and PyTorch is not installed.

    Supported Platforms:
        ``Ascend`` ``CPU``

    Examples:
        >>> module = torch.nn.Sequential(torch.nn.Conv3d(1, 8, 3), torch.nn.BatchNorm3d(8))
        >>> net = nn.SequentialCell(nn.Conv3d(1, 8, 3, has_bias=True), bn3d.BatchNorm3d(8))
        >>> print(bn3d.convert_state_dict(module.state_dict(), net))
        6 mapped, 0 missing, 0 unexpected, 0 mismatched, 1 dropped
    """
    check_net(net)
    if not isinstance(partial, bool):
        raise TypeError(f"'partial' must be a bool, got {partial!r} ({type(partial).__name__})")
    patterns = compile_rules(rules)
    if output is not None:
        files.check_output(output, files.MINDSPORE_SUFFIXES)
    if isinstance(source, Mapping):
        state = state_dict_in(source, key, "'source'")
    elif isinstance(source, str | PathLike):
        state = files.read_torch(source, key)
    else:
        raise TypeError(
            f"'source' must be a path, or a mapping of names to tensors, got {type(source)}"
            f"{'; give its state_dict()' if hasattr(source, 'state_dict') else ''}"
        )
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
        self.names: set[str] = set()  # of the tensors, after the rules
        self.taken: dict[str, str] = {}  # parameter -> the tensor that it got
        self.refused: set[str] = set()  # parameters whose tensor does not fit

    def convert(self, patterns: list[tuple[re.Pattern[str], str]]) -> Conversion:
        report = self.conversion
        for source, value in self.state.items():
            name = rename(source, patterns)
            if is_meant(source, value):
                self.names.add(name)
            # Without a rule of ours the same name is not enough, a rule of the user's is, also one
            # that puts the name itself in its place.
            asked_for = name != source or any(
                pattern.search(source) and pattern.sub(to, source) == source
                for pattern, to in patterns
            )
            found = [s for s in self.by_name.get(name, ()) if s.torch_name or asked_for]
            for slot in found:
                reason = self._place(source, slot)
                if reason is not None:
                    report.mismatched[source] = reason
                    self.refused.add(slot.parameter.name)
            if not found:
                meaningless = not is_meant(source, value) or name.split(".")[-1] == COUNT
                (report.dropped if meaningless else report.unexpected).append(source)
        for slot in self.places:
            name = slot.parameter.name
            if name in self.taken or name in self.refused:
                continue
            if slot.absent is None or (slot.bias and slot.bias.torch_name in self.names):
                report.missing[name] = slot.reason or f"{slot.torch_name} is not there"
            elif name not in report.filled:
                self._fill(slot, slot.absent)
        if not report.complete:
            wanted = [slot.torch_name for slot in self.places if slot.torch_name]
            report.hint = hint_at_names(self.names, wanted) or hint_at_key(self.state)
        return report

    def _fill(self, slot: Slot, value: float) -> None:
        """Give a parameter what a layer of PyTorch computes with that has none."""
        parameter = slot.parameter
        self.conversion.filled[parameter.name] = (
            f"{value:g}, because {slot.torch_name} is not there"
        )
        self.conversion.tensors[parameter.name] = Parameter(
            ms.Tensor(np.full(parameter.shape, value, np.float32)).astype(parameter.dtype),
            name=parameter.name,
            requires_grad=parameter.requires_grad,
        )

    def _place(self, source: str, slot: Slot) -> str | None:
        """Put a tensor into the place of a parameter, or say why not."""
        tensor, parameter = self.state[source], slot.parameter
        try:
            array = _values(tensor, slot.torch_shape)
        except ValueError as error:
            return str(error)
        except (TypeError, RuntimeError) as error:  # PyTorch's, for the sparse and those on "meta"
            return f"cannot be read: {error}"
        if parameter.name in self.taken:  # a shared one: PyTorch lists it at each place
            other = self.taken[parameter.name]
            if np.array_equal(to_numpy(self.state[other]), array, equal_nan=True):
                return None
            return f"{parameter.name} is one parameter here, and {other} has other values for it"
        value = ms.Tensor(array.reshape(parameter.shape)).astype(parameter.dtype)
        if not _holds(to_numpy(value).reshape(array.shape), array):
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


def _values(tensor: Any, shape: tuple[int, ...]) -> np.ndarray:
    if not is_tensor(tensor):
        raise ValueError(f"is a {type(tensor).__qualname__}, no tensor")
    if tuple(tensor.shape) != shape:
        raise ValueError(f"has shape {tuple(tensor.shape)}, its place {shape}")
    array = to_numpy(tensor)
    if np.iscomplexobj(array):
        raise TypeError(f"dtype {dtype_name(tensor)} would lose its imaginary part")
    return array


def _holds(cast: np.ndarray, array: np.ndarray) -> bool:
    """Whether a cast lost no value altogether: none became infinite, and integers are the same."""
    if np.issubdtype(cast.dtype, np.floating):
        return not np.any(np.isfinite(array) & ~np.isfinite(cast))
    return np.array_equal(cast, array)
