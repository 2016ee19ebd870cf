"""How PyTorch names and shapes the parameters of each kind of layer.

Kernels have the same order of axes in both, transposed convolutions included, with one
exception: MindSpore's 1-D convolutions are 2-D ones of height 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mindspore import Parameter, mint, nn

from bn3d.mindspore_private.cells import children, own_parameters
from bn3d.networks import torch_layers

__all__ = ["COUNT", "NamingRules", "Slot", "compile_rules", "rename", "slots"]

_SAME = {"weight": "weight", "bias": "bias"}
_BATCH_NORM = torch_layers.NAMES
_AFFINE = {name: _BATCH_NORM[name] for name in ("gamma", "beta")}
_STATISTICS = {name: _BATCH_NORM[name] for name in ("moving_mean", "moving_variance")}
_CONV1D = (nn.Conv1d, nn.Conv1dTranspose)
_INSTANCE_NORM = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)

_STATISTICAL = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm, *_INSTANCE_NORM)
_NORM = (*_STATISTICAL, nn.LayerNorm, nn.GroupNorm)

# Attribute in MindSpore -> in PyTorch; the first kind that fits counts.
_RULES: tuple[tuple[tuple[type, ...], dict[str, str]], ...] = (
    (_STATISTICAL, _BATCH_NORM),
    (_NORM, _AFFINE),
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), _SAME),
    ((nn.Conv1dTranspose, nn.Conv2dTranspose, nn.Conv3dTranspose), _SAME),
    ((nn.Dense,), _SAME),
    ((nn.Embedding, nn.EmbeddingLookup), {"embedding_table": "weight"}),
    ((nn.PReLU,), {"w": "weight"}),
)

# What PyTorch's batch norm counts and MindSpore has no use for.
COUNT = "num_batches_tracked"

NamingRules = Mapping[str, str] | Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Slot:
    """One place of a network that holds a parameter.

    Attributes:
        parameter: the MindSpore Parameter; a shared one has several slots.
        torch_name: the name that PyTorch gives to this place, None if no rule covers it.
        reason: why no rule does.
        squeezed: an axis of length 1 that the shape has here and not in PyTorch.
        absent: the value that a layer of PyTorch computes with that has no such tensor, because
            it is not affine or tracks no statistics, as the layer here; None: it has one.
        unused: whether no output of the layer depends on it.
        bias: of a weight that may be absent, the bias: PyTorch has none without a weight.
        counts: whether PyTorch's layer also has `num_batches_tracked` beside it.
    """

    parameter: Parameter
    torch_name: str | None
    reason: str = ""
    squeezed: int | None = None
    absent: float | None = None
    unused: bool = False
    bias: Slot | None = None
    counts: bool = False

    @property
    def torch_shape(self) -> tuple[int, ...]:
        shape = tuple(self.parameter.shape)
        return (
            shape if self.squeezed is None else shape[: self.squeezed] + shape[self.squeezed + 1 :]
        )


def slots(net: nn.Cell) -> Iterator[Slot]:
    """Every place of a parameter in a network, a shared one at each of its places."""

    def walk(cell: nn.Cell, path: tuple[str, ...], above: tuple[int, ...]) -> Iterator[Slot]:
        if id(cell) in above:
            return
        sub_cells = dict(children(cell))
        if torch_layers.is_new_style(cell):
            sub_cells.pop("bn2d", None)  # what `swap` put there holds the same parameters
        elif _is_norm3d(cell):
            yield from _slots_of(sub_cells.pop("bn2d"), path)
        yield from _slots_of(cell, path)
        for name, child in sub_cells.items():
            if child is not None:
                yield from walk(child, (*path, name), (*above, id(cell)))

    yield from walk(net, (), ())


def _is_norm3d(cell: nn.Cell) -> bool:
    """Whether the parameters of a layer are those of its child bn2d. Look-alikes of networks'
    own that are built in the same way count.
    """
    sub_cells = children(cell)
    inner = sub_cells.get("bn2d")
    return isinstance(inner, nn.BatchNorm2d) and len(sub_cells) == 1 and not own_parameters(cell)


def _slots_of(cell: nn.Cell, path: tuple[str, ...]) -> Iterator[Slot]:
    parameters = own_parameters(cell)
    if not parameters:
        return
    names = _names(cell)
    absent = _absent(cell, parameters)
    made: dict[str, Slot] = {}
    for name in sorted(parameters, key="gamma".__eq__):  # gamma last: it refers to beta
        if names is not None and name not in names:
            reason = (
                f"there is no rule for {name} of {type(cell).__module__}.{type(cell).__qualname__}"
            )
            made[name] = Slot(parameters[name], None, reason)
            continue
        torch_name = name if names is None else names[name]
        made[name] = Slot(
            parameters[name],
            ".".join((*path, torch_name)),
            squeezed=2 if isinstance(cell, _CONV1D) and name == "weight" else None,
            absent=absent.get(name),
            unused=name in _STATISTICS and getattr(cell, "use_batch_statistics", None) is True,
            bias=made.get("beta") if name == "gamma" and name in absent else None,
            counts=name == "moving_variance" and not isinstance(cell, _INSTANCE_NORM),
        )
    yield from (made[name] for name in parameters)


def _absent(cell: nn.Cell, parameters: Mapping[str, Parameter]) -> dict[str, float]:
    """The parameters that the layer of PyTorch may be without, and the values they stand for."""
    if not isinstance(cell, _NORM):
        return {}
    absent = {}
    gamma, beta = parameters.get("gamma"), parameters.get("beta")
    if beta is not None and not beta.requires_grad:
        absent["beta"] = 0.0
        if gamma is not None and not gamma.requires_grad:
            absent["gamma"] = 1.0
    if isinstance(cell, _INSTANCE_NORM) or getattr(cell, "use_batch_statistics", None) is True:
        absent |= {"moving_mean": 0.0, "moving_variance": 1.0}
    return absent


def _names(cell: nn.Cell) -> dict[str, str] | None:
    """The rule for a layer, {} if there is none, None if names are the same in both."""
    if torch_layers.is_new_style(cell):
        return None
    for kinds, names in _RULES:
        if isinstance(cell, kinds):
            return names
    module = type(cell).__module__
    # Layers of mindspore.mint are PyTorch's by name; so is what a network's own cell holds.
    same = module.startswith(mint.__name__) or not module.startswith("mindspore.")
    return None if same or isinstance(cell, getattr(nn, "Linear", ())) else {}


def compile_rules(rules: object) -> list[tuple[re.Pattern[str], str]]:
    """The user's rules, checked.

    Raises:
        TypeError: not pairs of texts.
        ValueError: a pattern is no regular expression.
    """
    if isinstance(rules, str) or not isinstance(rules, Iterable):
        raise TypeError(
            f"'rules' must be a mapping, or pairs, of pattern and replacement, got {rules!r} "
            f"({type(rules).__name__})"
        )
    pairs = list(rules.items() if isinstance(rules, Mapping) else rules)
    compiled = []
    for pair in pairs:
        if not (
            isinstance(pair, tuple)
            and len(pair) == 2
            and isinstance(pair[0], str)
            and isinstance(pair[1], str)
        ):
            raise TypeError(f"'rules' must hold pairs (pattern, replacement) of str, got {pair!r}")
        try:
            compiled.append((re.compile(pair[0]), pair[1]))
        except re.error as error:
            raise ValueError(f"'rules': {pair[0]!r} is no regular expression: {error}") from None
    return compiled


def rename(name: str, rules: Iterable[tuple[re.Pattern[str], str]]) -> str:
    """A name after all rules, one after the other."""
    for pattern, replacement in rules:
        try:
            name = pattern.sub(replacement, name)
        except (re.error, IndexError) as error:
            raise ValueError(
                f"'rules': {replacement!r} does not fit {pattern.pattern!r}: {error}"
            ) from None
    return name
