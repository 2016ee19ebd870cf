"""What the source of a network's own cell says about its layers.

Read is what can be read safely; all else counts as not said.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from mindspore import nn

__all__ = ["Call", "Source"]


@dataclass(frozen=True)
class Call:
    """`self.after(self.before(...))`, with the shape of a reshape between them."""

    before: str
    after: str
    shape: tuple[ast.expr, ...] | None = None


class Source:
    """Every method of a class, up to MindSpore's own, but `__init__`.

    Attributes:
        uses: how often each `self.name` is read, `self.name is None` and the like aside.
        elsewhere: names of attributes that are read of other things than `self`.
        calls: layers in `construct` whose only input is the output of another, which goes
            nowhere else.
    """

    def __init__(self, kind: type):
        self._functions = list(_functions(kind))
        attributes = [
            node
            for function in self._functions
            for parent in ast.walk(function)
            for node in ast.iter_child_nodes(parent)
            if isinstance(node, ast.Attribute) and not _is_tested(node, parent)
        ]
        self.uses = Counter(node.attr for node in attributes if _attribute_of_self(node))
        self.elsewhere = {node.attr for node in attributes if not _attribute_of_self(node)}
        self.calls = [
            call
            for function in self._functions
            if function.name == "construct"
            for call in _Construct(function).calls()
        ]

    @staticmethod
    @functools.cache
    def of(kind: type) -> Source:
        return Source(kind)

    def how_run(self, name: str) -> str:
        """How the cells in the container `self.name` are called: "chain", each with the output
        of the one before; "each", as a whole; "unknown".
        """
        ways = {way for f in self._functions for way in _ways_to_run(f, name)}
        for way in ("unknown", "each", "chain"):
            if way in ways:
                return way
        return "unknown"


def _functions(kind: type) -> Iterator[ast.FunctionDef]:
    taken = {"__init__"}
    for base in kind.__mro__:
        if base.__module__.startswith("mindspore.") or not issubclass(base, nn.Cell):
            continue
        for name, method in vars(base).items():
            if name in taken or not inspect.isfunction(method):
                continue
            taken.add(name)
            try:
                tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
            except (OSError, TypeError, SyntaxError):
                continue
            if tree.body and isinstance(tree.body[0], ast.FunctionDef):
                yield tree.body[0]


def _ways_to_run(function: ast.FunctionDef, name: str) -> Iterator[str]:
    for parent in ast.walk(function):
        for node in ast.iter_child_nodes(parent):
            if _attribute_of_self(node) != name or _is_tested(node, parent):
                continue
            if isinstance(parent, ast.Call) and parent.func is node:
                yield "chain"
            elif isinstance(parent, ast.For) and parent.iter is node:
                yield _way_of_loop(parent, function)
            else:
                yield "unknown"


def _way_of_loop(loop: ast.For, function: ast.FunctionDef) -> str:
    """How `for layer in self.layers` runs the layers."""
    if not isinstance(loop.target, ast.Name):
        return "unknown"
    layer = loop.target.id
    called = {
        id(node.func)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords
    }
    if any(_reads(node, layer) and id(node) not in called for node in ast.walk(function)):
        return "unknown"
    match loop.body:
        case [
            ast.Assign(
                targets=[ast.Name(id=target)],
                value=ast.Call(func=ast.Name(id=func), args=[ast.Name(id=argument)]),
            )
        ] if func == layer and target == argument and not loop.orelse:
            return "chain"
    return "each"


class _Construct:
    """Finds the calls in one `construct`."""

    def __init__(self, function: ast.FunctionDef):
        self.function = function
        self.loops = [n for n in ast.walk(function) if isinstance(n, ast.For | ast.While)]

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
        reads = [node for node in ast.walk(statement) if _reads(node, name)]
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


def _is_tested(node: ast.AST, parent: ast.AST) -> bool:
    """Whether a condition only asks if there is something: `if x`, `not x`, `x is None`."""
    match parent:
        case ast.Compare(ops=[ast.Is() | ast.IsNot()], comparators=[ast.Constant(value=None)]):
            return True
        case ast.UnaryOp(op=ast.Not()):
            return True
        case ast.If(test=test) | ast.IfExp(test=test):
            return test is node
    return False


def _reads(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)


def _attribute_of_self(node: ast.AST) -> str | None:
    match node:
        case ast.Attribute(value=ast.Name(id="self"), attr=name):
            return name
    return None


def _called_layer(node: ast.AST) -> str | None:
    """The name in `self.name(x)`."""
    if isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords:
        return _attribute_of_self(node.func)
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
