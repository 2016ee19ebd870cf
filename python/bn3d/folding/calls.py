"""The layers in one `construct` that take the output of another layer, which nothing else does."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Call", "attribute_of_self", "calls_in", "name_of", "reads"]


@dataclass(frozen=True)
class Call:
    """`self.after(self.before(...))`, with the shape of a reshape between them."""

    before: str
    after: str
    shape: tuple[ast.expr, ...] | None = None


def calls_in(construct: ast.FunctionDef) -> Iterator[Call]:
    """The calls of layers in the source of a `construct`."""
    return _Construct(construct).calls()


def name_of(node: ast.AST | None) -> str | None:
    """The name of a variable, None for all else."""
    return node.id if isinstance(node, ast.Name) else None


def reads(node: ast.AST, name: str) -> bool:
    """Whether a node reads a variable."""
    if isinstance(node, ast.AugAssign):  # its target is marked as written only
        return name_of(node.target) == name
    return isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)


def attribute_of_self(node: ast.AST) -> str | None:
    """The name in `self.name`."""
    match node:
        case ast.Attribute(value=ast.Name(id="self"), attr=name):
            return name
    return None


class _Construct:
    """Finds the calls in one `construct`."""

    def __init__(self, function: ast.FunctionDef):
        self.function = function
        self.loops = [n for n in ast.walk(function) if isinstance(n, ast.For | ast.While)]
        self.inner = [
            node
            for node in ast.walk(function)
            if isinstance(node, ast.FunctionDef | ast.Lambda) and node is not function
        ]

    def calls(self) -> Iterator[Call]:
        for node in ast.walk(self.function):
            for block in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
                if isinstance(block, list):
                    for index, statement in enumerate(block):
                        yield from self._calls_in(block, index, statement)

    def _calls_in(self, block: list, index: int, statement: ast.stmt) -> Iterator[Call]:
        if not isinstance(statement, ast.Assign | ast.Return | ast.Expr):
            return
        for node in ast.walk(statement):
            after = _called_layer(node)
            if after:
                found = self._before(node.args[0], block, index)
                if found:
                    yield Call(found[0], after, found[1])

    def _before(self, expression, block, index) -> tuple[str, tuple | None] | None:
        """The layer that computes an expression, and the shape it is reshaped to."""
        layer = _called_layer(expression)
        if layer:
            return layer, None
        reshaped = _reshape(expression)
        if reshaped:
            inner, shape = reshaped
            found = self._before(inner, block, index)
            return (found[0], shape) if found and found[1] is None else None
        if isinstance(expression, ast.Name) and index > 0:
            match block[index - 1]:
                case ast.Assign(targets=[ast.Name(id=target)], value=value) if (
                    target == expression.id and self._read_only_in(block[index], target)
                ):
                    return self._before(value, block, index - 1)
        return None

    def _read_only_in(self, statement: ast.stmt, name: str) -> bool:
        """Whether a variable is read once in a statement and never after it."""
        inside = list(ast.walk(statement))
        found = [node for node in inside if reads(node, name)]
        if len(found) != 1 or any(_binds_inside(node, name) for node in inside):
            return False
        others = [node for node in ast.walk(self.function) if reads(node, name)]
        others.remove(found[0])
        if any(node in others for inner in self.inner for node in ast.walk(inner)):
            return False  # an inner function reads it whenever it runs
        rebound = isinstance(statement, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == name for target in statement.targets
        )
        if rebound or isinstance(statement, ast.Return):
            return True
        in_loop = any(statement in list(ast.walk(loop)) for loop in self.loops)
        end = (statement.end_lineno, statement.end_col_offset)
        return not any(in_loop or (node.lineno, node.col_offset) >= end for node in others)


def _binds_inside(node: ast.AST, name: str) -> bool:
    """Whether a part of a statement gives the name to another value than its targets do."""
    match node:
        case ast.comprehension(target=target):
            return any(name_of(each) == name for each in ast.walk(target))
        case ast.arg(arg=other):
            return other == name
        case ast.NamedExpr(target=ast.Name(id=other)):
            return other == name
    return False


def _called_layer(node: ast.AST) -> str | None:
    """The name in `self.name(x)`."""
    if isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords:
        return attribute_of_self(node.func)
    return None


def _reshape(node: ast.AST) -> tuple[ast.expr, tuple[ast.expr, ...]] | None:
    """(x, shape) of `x.reshape(...)`, `x.view(...)` and `ops.reshape(x, ...)`."""
    if not isinstance(node, ast.Call) or node.keywords or not isinstance(node.func, ast.Attribute):
        return None
    if node.func.attr not in ("reshape", "view"):
        return None
    owner, arguments = node.func.value, node.args
    if isinstance(owner, ast.Name) and owner.id in ("ops", "mint") and arguments:
        owner, *arguments = arguments
    match arguments:
        case [ast.Tuple(elts=shape) | ast.List(elts=shape)]:
            return owner, tuple(shape)
    return owner, tuple(arguments)
