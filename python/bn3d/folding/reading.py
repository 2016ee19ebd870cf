"""Which layer feeds which batch norm of a network.

Both must be in one place of the network and of the source, and the output of the first must go
nowhere else; `source.py` reads that from `construct`.
"""

from __future__ import annotations

import ast
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from mindspore import Parameter, nn

from bn3d import new_style
from bn3d.batch_norm import BatchNorm3d
from bn3d.cells import cells
from bn3d.folding import exposure
from bn3d.folding.arithmetic import PRODUCERS
from bn3d.folding.calls import Call
from bn3d.folding.containers import ends, is_container, items, with_items
from bn3d.folding.methods import Methods, reached_from
from bn3d.folding.source import Source

__all__ = ["Pair", "read_pairs"]

_DENSE_NEEDS_RESHAPE = (
    "the Dense before it needs a reshape to (-1, C, D, H, W) between them, of known C, D, H, W"
)


@dataclass(frozen=True)
class Pair:
    """A batch norm layer and the layer whose output it normalises, and nothing else does."""

    producer: nn.Cell
    norm: nn.Cell


class _Neighbours(NamedTuple):
    """Two cells, the second of which takes the output of the first.

    Attributes:
        before, after: the cells.
        reshaped: whether there is a reshape between them.
        unclear: what speaks against that being all that is done with the output, or None.
    """

    before: nn.Cell
    after: nn.Cell
    reshaped: bool
    unclear: str | None


def read_pairs(net: nn.Cell) -> dict[int, Pair | str]:
    """By the id of each batch norm layer that follows a layer: the pair, or why there is none."""
    network = _Network(net)
    found: dict[int, Pair | str] = {}
    for before, after, reshaped, unclear in network.neighbours():
        path_to_producer, path_to_norm = ends(before, -1), ends(after, 0)
        producer, norm = path_to_producer[-1], path_to_norm[-1]
        if not isinstance(producer, PRODUCERS) or not isinstance(norm, new_style.STOCK):
            continue
        enclosing = (*path_to_producer, *path_to_norm)
        reasons = [unclear, *(network.reason_against(cell) for cell in enclosing)]
        if any(network.shares(p) for p in (producer.weight, producer.bias) if p is not None):
            reasons.append("the layer before it shares its weight or bias with another")
        if producer.mixed_precision_type != norm.mixed_precision_type:
            reasons.append("the layer before it computes in another precision, by to_float")
        if isinstance(producer, nn.Dense) and not reshaped:
            reasons.append(_DENSE_NEEDS_RESHAPE)
        reason = next(filter(None, reasons), None)
        if not isinstance(found.get(id(norm)), str):  # a reason of one place holds for all
            found[id(norm)] = reason or Pair(producer, norm)
    return found


class _Network:
    """What is known of all cells of a network before single ones are looked at."""

    def __init__(self, net: nn.Cell):
        self._net = net
        self._all = [cell for _, cell in cells(net)]
        self._places = exposure.places(net)
        self._unseen = exposure.unseen(net)
        own = [cell for cell in self._all if _is_own(cell)]
        held = [p for cell in self._all for p in cell._params.values()]
        held += [each for cell in own for each in exposure.in_containers(list(vars(cell).values()))]
        self._parameters = Counter(id(each) for each in held if isinstance(each, Parameter))
        methods = {kind: Methods(kind) for kind in {type(cell) for cell in own}}
        every = [method for each in methods.values() for method in each.all]
        starts = {"construct"} | exposure.bound_names(net)
        names = reached_from(starts, every)
        self._sources = {kind: Source(each, names) for kind, each in methods.items()}
        self._elsewhere = set().union(*(source.elsewhere for source in self._sources.values()))
        for cell in own:
            source = self._sources[type(cell)]
            below = (inner for _, inner in cells(cell))
            if not exposure.runs_its_class(cell):
                self._hide(below, "the cell that it is in runs another construct")
            elif source.hides_all:
                self._hide(below, source.hides_all)
            elif source.hides_own:
                for child in cell._cells.values():
                    self._hide(with_items(child), source.hides_own)

    def _hide(self, hidden: Iterable[nn.Cell], reason: str) -> None:
        for cell in hidden:
            self._unseen.setdefault(id(cell), reason)

    def shares(self, parameter: Parameter) -> bool:
        """Whether several cells hold a parameter."""
        return self._parameters[id(parameter)] > 1

    def neighbours(self) -> Iterator[_Neighbours]:
        """All pairs of cells of which one takes the output of the other."""
        if is_container(self._net):
            yield from self._in_container(self._net, "chain")
        for parent in self._all:
            source = self._sources.get(type(parent))
            if source is None:
                continue
            for name, child in parent._cells.items():
                if is_container(child):
                    way = "unknown" if name in self._elsewhere else source.how_run(name)
                    yield from self._in_container(child, way)
            for call in source.calls:
                yield from self._of_call(call, parent, source)

    def _of_call(self, call: Call, parent: nn.Cell, source: Source) -> Iterator[_Neighbours]:
        before, after = parent._cells.get(call.before), parent._cells.get(call.after)
        if before is None or after is None:
            return
        reason = None
        if source.uses[call.before] > 1 or source.uses[call.after] > 1:
            reason = "it or the layer before it is used more than once in the source"
        elif {call.before, call.after} & self._elsewhere:
            reason = "the source of another cell reaches for it or the layer before it"
        elif call.shape is not None:
            reason = "there is a reshape between it and the layer before it"
            if isinstance(before, nn.Dense):
                reason = _reason_against_reshape(call.shape, parent, before, after)
        yield _Neighbours(before, after, call.shape is not None, reason)

    def _in_container(self, container: nn.Cell, way: str) -> Iterator[_Neighbours]:
        if self._places[id(container)] > 1 or id(container) in self._unseen:
            way = "unknown"
        held = items(container)
        unclear = None if way == "chain" else "how the layers of its container are run is not clear"
        for before, after in itertools.pairwise(held):
            yield _Neighbours(before, after, False, unclear)
        for item in held:
            if is_container(item):
                called = way != "unknown" and not isinstance(item, nn.CellList)
                yield from self._in_container(item, "chain" if called else "unknown")

    def reason_against(self, cell: nn.Cell) -> str | None:
        """Why a cell on the way from a layer to a batch norm may do more than it seems."""
        what = "it" if isinstance(cell, new_style.STOCK) else f"the {type(cell).__name__} before it"
        if self._places[id(cell)] > 1:
            return f"{what} is in more than one place of the network"
        if id(cell) in self._unseen:
            return self._unseen[id(cell)]
        if cell._forward_hook or cell._forward_pre_hook:
            return f"{what} has hooks"
        if isinstance(cell, nn.Dense) and cell.activation_flag:
            return f"{what} has an activation of its own"
        kinds = (*PRODUCERS, *new_style.STOCK, BatchNorm3d)
        if not exposure.runs_its_class(cell) or (
            isinstance(cell, kinds)
            and not any(type(cell).construct is kind.construct for kind in kinds)
        ):
            return f"{what} has a construct of its own"
        return None


def _is_own(cell: nn.Cell) -> bool:
    """Whether a cell has a source to read: one of the network's own classes."""
    return not type(cell).__module__.startswith("mindspore.") and not isinstance(
        cell, (*new_style.STOCK, *PRODUCERS)
    )


def _reason_against_reshape(shape, parent: nn.Cell, dense: nn.Dense, norm: nn.Cell) -> str | None:
    """None if the reshape is one of (N, features) to (N, C, D, H, W)."""
    values = [_number(expression, parent) for expression in shape]
    fits = (
        len(values) == 5
        and values[0] == -1
        and None not in values
        and isinstance(norm, new_style.STOCK)
        and values[1] == norm.bn2d.num_features
        and math.prod(values[1:]) == dense.out_channels
    )
    return None if fits else _DENSE_NEEDS_RESHAPE


def _number(expression: ast.expr, parent: nn.Cell) -> int | None:
    """The value of a literal or of `self.name`."""
    match expression:
        case ast.Attribute(value=ast.Name(id="self"), attr=name):
            value = getattr(parent, name, None)
        case _:
            try:
                value = ast.literal_eval(expression)
            except ValueError:
                value = None
    return value if type(value) is int else None
