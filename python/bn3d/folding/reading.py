"""Which layer feeds which batch norm, read from the source of `construct`.

Read is what can be read safely; all else counts as not seen. A layer must be in one place of
the network and be called in one place of the source, and its output must go nowhere else.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import math
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from mindspore import nn

from bn3d import new_style
from bn3d.cells import cells
from bn3d.folding.arithmetic import PRODUCERS

__all__ = ["Pair", "read_pairs"]


@dataclass(frozen=True)
class Pair:
    """A batch norm layer and the layer whose output it normalises, and nothing else does."""

    producer: nn.Cell
    norm: nn.Cell


@dataclass(frozen=True)
class _Seen:
    """`self.norm(self.producer(...))` in a source, with the shape of a reshape between them."""

    producer: str
    norm: str
    shape: list[ast.expr] | None = None


def read_pairs(net: nn.Cell) -> dict[int, Pair | str]:
    """By the id of each batch norm layer: the pair, or why there is none."""
    uses, weights = _uses(net)
    found: dict[int, Pair | str] = {}
    for _, parent in cells(net):
        for producer, norm, unclear in _pairs_of(parent):
            reason = unclear or _reason_against(norm, "it", uses)
            reason = reason or _reason_against(producer, "the layer before it", uses)
            if weights[id(producer.weight)] > 1:
                reason = reason or "the layer before it shares its weight with another"
            found[id(norm)] = reason or Pair(producer, norm)
    return found


def _uses(net: nn.Cell) -> tuple[Counter, Counter]:
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


def _reason_against(cell: nn.Cell, what: str, uses: Counter) -> str | None:
    if uses[id(cell)] > 1:
        return f"{what} is in more than one place of the network"
    if cell._forward_hook or cell._forward_pre_hook:
        return f"{what} has hooks"
    if isinstance(cell, nn.Dense) and cell.activation_flag:
        return f"{what} has an activation of its own"
    if isinstance(cell, PRODUCERS) and not any(
        type(cell).construct is kind.construct for kind in PRODUCERS
    ):
        return f"{what}, a {type(cell).__qualname__}, has a construct of its own"
    return None


def _pairs_of(parent: nn.Cell) -> Iterator[tuple[nn.Cell, nn.Cell, str | None]]:
    if isinstance(parent, nn.SequentialCell):
        if type(parent).construct is nn.SequentialCell.construct:
            children = list(parent.cell_list)
            for producer, norm in itertools.pairwise(children):
                if _is_pair(producer, norm):
                    dense = isinstance(producer, nn.Dense)
                    yield producer, norm, _DENSE_NEEDS_RESHAPE if dense else None
        return
    if type(parent).__module__.startswith("mindspore."):
        return
    for seen in _read(type(parent)):
        producer, norm = (parent._cells.get(name) for name in (seen.producer, seen.norm))
        if not _is_pair(producer, norm):
            continue
        calls = _calls_of(type(parent))
        reason = None
        if calls[seen.producer] > 1 or calls[seen.norm] > 1:
            reason = "it or the layer before it is used more than once in the source"
        elif isinstance(producer, nn.Dense) and not _keeps_rows(seen.shape, parent, producer, norm):
            reason = _DENSE_NEEDS_RESHAPE
        elif not isinstance(producer, nn.Dense) and seen.shape is not None:
            reason = "there is a reshape between it and the layer before it"
        yield producer, norm, reason


_DENSE_NEEDS_RESHAPE = (
    "the Dense before it needs a reshape to (-1, C, D, H, W) between them, of known C, D, H, W"
)


def _is_pair(producer: nn.Cell | None, norm: nn.Cell | None) -> bool:
    return isinstance(producer, PRODUCERS) and isinstance(norm, new_style.STOCK)


def _keeps_rows(shape, parent: nn.Cell, dense: nn.Dense, norm: nn.Cell) -> bool:
    """Whether a reshape is one of (N, features) to (N, C, D, H, W)."""
    if shape is None or len(shape) != 5:
        return False
    values = [_number(expression, parent) for expression in shape]
    return (
        values[0] == -1
        and None not in values
        and values[1] == norm.bn2d.num_features
        and math.prod(values[1:]) == dense.out_channels
    )


def _number(expression: ast.expr, parent: nn.Cell) -> int | None:
    """The value of a literal or of `self.name`."""
    try:
        value = ast.literal_eval(expression)
    except ValueError:
        name = _attribute_of_self(expression)
        value = getattr(parent, name, None) if name else None
    return value if type(value) is int else None


def _functions(kind: type) -> Iterator[ast.FunctionDef]:
    """The source of every method that a network's own class has or inherits but __init__."""
    taken = set()
    for base in kind.__mro__:
        if base.__module__.startswith("mindspore.") or not issubclass(base, nn.Cell):
            continue
        for name, method in vars(base).items():
            if name == "__init__" or name in taken or not inspect.isfunction(method):
                continue
            taken.add(name)
            try:
                tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
            except (OSError, TypeError, SyntaxError):
                continue
            if tree.body and isinstance(tree.body[0], ast.FunctionDef):
                yield tree.body[0]


def _calls_of(kind: type) -> Counter:
    """How often each `self.name` is in the source."""
    return Counter(
        node.attr
        for function in _functions(kind)
        for node in ast.walk(function)
        if _attribute_of_self(node)
    )


def _read(kind: type) -> Iterator[_Seen]:
    for function in _functions(kind):
        if function.name == "construct":
            yield from _Reader(function).pairs()


class _Reader:
    """Reads one `construct`."""

    def __init__(self, function: ast.FunctionDef):
        self.function = function
        self.loops = [n for n in ast.walk(function) if isinstance(n, ast.For | ast.While)]

    def pairs(self) -> Iterator[_Seen]:
        for node in ast.walk(self.function):
            for block in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
                if isinstance(block, list):
                    for index, statement in enumerate(block):
                        yield from self._pairs_in(block, index, statement)

    def _pairs_in(self, block: list, index: int, statement: ast.stmt) -> Iterator[_Seen]:
        if not isinstance(statement, ast.Assign | ast.Return | ast.Expr):
            return
        for node in ast.walk(statement):
            norm = _called_layer(node)
            if norm:
                found = self._producer(node.args[0], block, index)
                if found:
                    yield _Seen(found[0], norm, found[1])

    def _producer(self, expression, block, index) -> tuple[str, list | None] | None:
        """The layer that computes an expression, and the shape it is reshaped to."""
        layer = _called_layer(expression)
        if layer:
            return layer, None
        reshaped = _reshape(expression)
        if reshaped:
            inner, shape = reshaped
            found = self._producer(inner, block, index)
            return (found[0], shape) if found and found[1] is None else None
        if isinstance(expression, ast.Name) and index > 0:
            before = block[index - 1]
            if (
                isinstance(before, ast.Assign)
                and len(before.targets) == 1
                and isinstance(before.targets[0], ast.Name)
                and before.targets[0].id == expression.id
                and self._read_only_in(block[index], expression.id)
            ):
                return self._producer(before.value, block, index - 1)
        return None

    def _read_only_in(self, statement: ast.stmt, name: str) -> bool:
        """Whether a variable is read once in a statement and never after it."""
        reads = [n for n in ast.walk(statement) if _reads(n, name)]
        if len(reads) != 1:
            return False
        rebound = isinstance(statement, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == name for target in statement.targets
        )
        if rebound or isinstance(statement, ast.Return):
            return True
        in_loop = any(statement in list(ast.walk(loop)) for loop in self.loops)
        return not any(
            _reads(node, name) and (in_loop or node.lineno > statement.end_lineno)
            for node in ast.walk(self.function)
            if node is not reads[0]
        )


def _reads(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)


def _attribute_of_self(node: ast.AST) -> str | None:
    if (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    ):
        return node.attr
    return None


def _called_layer(node: ast.AST) -> str | None:
    """The name in `self.name(x)`."""
    if isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords:
        return _attribute_of_self(node.func)
    return None


def _reshape(node: ast.AST) -> tuple[ast.expr, list[ast.expr]] | None:
    """(x, shape) of `x.reshape(...)`, `x.view(...)` and `ops.reshape(x, ...)`."""
    if not isinstance(node, ast.Call) or node.keywords or not isinstance(node.func, ast.Attribute):
        return None
    if node.func.attr not in ("reshape", "view"):
        return None
    owner = node.func.value
    if isinstance(owner, ast.Name) and owner.id in ("ops", "mint"):
        inner, arguments = node.args[0], node.args[1:]
    else:
        inner, arguments = owner, node.args
    if len(arguments) == 1 and isinstance(arguments[0], ast.Tuple | ast.List):
        arguments = arguments[0].elts
    return inner, list(arguments)
