"""Which layer feeds which batch norm of a network.

Both must be in one place of the network and of the source, and the output of the first must go
nowhere else; `source.py` reads that from `construct`.
"""

from __future__ import annotations

import ast
import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from mindspore import nn

from bn3d import new_style
from bn3d.cells import cells
from bn3d.folding.arithmetic import PRODUCERS
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


_Neighbours = tuple[nn.Cell, nn.Cell, bool, str | None]


def read_pairs(net: nn.Cell) -> dict[int, Pair | str]:
    """By the id of each batch norm layer that follows a layer: the pair, or why there is none."""
    places, weights = _places(net)
    found: dict[int, Pair | str] = {}
    for before, after, reshaped, unclear in _neighbours(net):
        enclosing = [*_ends(before, -1), *_ends(after, 0)]
        producer, norm = _ends(before, -1)[-1], _ends(after, 0)[-1]
        if not isinstance(producer, PRODUCERS) or not isinstance(norm, new_style.STOCK):
            continue
        reasons = [unclear, *(_reason_against(cell, places) for cell in enclosing)]
        if weights[id(producer.weight)] > 1:
            reasons.append("the layer before it shares its weight with another")
        if isinstance(producer, nn.Dense) and not reshaped:
            reasons.append(_DENSE_NEEDS_RESHAPE)
        found[id(norm)] = next(filter(None, reasons), None) or Pair(producer, norm)
    return found


def _places(net: nn.Cell) -> tuple[Counter, Counter]:
    """How many places of the network hold each cell, and how many cells each parameter."""
    places, parameters = Counter(), Counter()
    for _, cell in cells(net):
        places.update(id(child) for child in cell._cells.values())
        parameters.update(id(p) for p in cell._params.values() if p is not None)
        for name, value in vars(cell).items():
            if name in ("_cells", "cell_list"):  # the latter repeats a SequentialCell's _cells
                continue
            values = value.values() if isinstance(value, dict) else value
            if isinstance(value, list | tuple | dict):
                places.update(id(each) for each in values if isinstance(each, nn.Cell))
    return places, parameters


def _neighbours(net: nn.Cell) -> Iterator[_Neighbours]:
    """(first, second, reshaped, reason): two cells, the second of which takes the output of the
    first, maybe after a reshape, and what speaks against that being all.
    """
    elsewhere = set().union(*(Source.of(type(c)).elsewhere for _, c in cells(net) if _is_own(c)))
    if _is_container(net):
        yield from _in_container(net, "chain")
    for _, parent in cells(net):
        if not _is_own(parent):
            continue
        source = Source.of(type(parent))
        for name, child in parent._cells.items():
            if _is_container(child):
                way = "unknown" if name in elsewhere else source.how_run(name)
                yield from _in_container(child, way)
        for call in source.calls:
            before, after = parent._cells.get(call.before), parent._cells.get(call.after)
            if before is None or after is None:
                continue
            reason = None
            if source.uses[call.before] > 1 or source.uses[call.after] > 1:
                reason = "it or the layer before it is used more than once in the source"
            elif {call.before, call.after} & elsewhere:
                reason = "the source of another cell reaches for it or the layer before it"
            elif call.shape is not None:
                reason = "there is a reshape between it and the layer before it"
                if isinstance(before, nn.Dense):
                    reason = _reason_against_reshape(call.shape, parent, before, after)
            yield before, after, call.shape is not None, reason


def _in_container(container: nn.Cell, way: str) -> Iterator[_Neighbours]:
    items = _items(container)
    unclear = None if way == "chain" else "how the layers of its container are run is not clear"
    for before, after in itertools.pairwise(items):
        yield before, after, False, unclear
    for item in items:
        if _is_container(item):
            called = way != "unknown" and not isinstance(item, nn.CellList)
            yield from _in_container(item, "chain" if called else "unknown")


def _is_container(cell: nn.Cell) -> bool:
    if isinstance(cell, nn.SequentialCell):
        return type(cell).construct is nn.SequentialCell.construct
    return isinstance(cell, nn.CellList)


def _is_own(cell: nn.Cell) -> bool:
    """Whether a cell has a source to read: one of the network's own classes."""
    return not type(cell).__module__.startswith("mindspore.") and not isinstance(
        cell, (*new_style.STOCK, *PRODUCERS)
    )


def _ends(cell: nn.Cell, index: int) -> list[nn.Cell]:
    """The cell and, of SequentialCells, the first (0) or last (-1) cell in it, and so on."""
    path = [cell]
    while _is_container(path[-1]) and isinstance(path[-1], nn.SequentialCell) and _items(path[-1]):
        path.append(_items(path[-1])[index])
    return path


def _items(container: nn.Cell) -> list[nn.Cell]:
    """What a container runs: of a SequentialCell the `cell_list`, not its `_cells`."""
    if isinstance(container, nn.SequentialCell):
        return list(container.cell_list)
    return list(container._cells.values())


def _reason_against(cell: nn.Cell, places: Counter) -> str | None:
    what = "it" if isinstance(cell, new_style.STOCK) else f"the {type(cell).__name__} before it"
    if places[id(cell)] > 1:
        return f"{what} is in more than one place of the network"
    if cell._forward_hook or cell._forward_pre_hook:
        return f"{what} has hooks"
    if isinstance(cell, nn.Dense) and cell.activation_flag:
        return f"{what} has an activation of its own"
    if isinstance(cell, PRODUCERS) and not any(
        type(cell).construct is kind.construct for kind in PRODUCERS
    ):
        return f"{what} has a construct of its own"
    return None


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
