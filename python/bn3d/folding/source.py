"""What the source of a network's own cell says about its layers.

Read is what can be read safely; all else counts as not said.
"""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from collections.abc import Iterator

from bn3d.folding.calls import attribute_of_self, calls_in, name_of, reads
from bn3d.folding.methods import Method, Methods, reached_from

__all__ = ["Source"]

_ASK_ABOUT_SELF = ("super", "isinstance", "hasattr", "getattr", "type", "id")
_READ_ANYTHING = ("vars", "eval", "exec", "locals", "attrgetter", "methodcaller")
_HOLD_ANYTHING = (
    "__dict__",
    "__getattribute__",
    "_cells",
    "attrgetter",
    "cells",
    "cells_and_names",
    "methodcaller",
    "name_cells",
)


class Source:
    """What the methods of one class do with the attributes of `self`.

    Args:
        methods: of the class.
        run: names that `construct` of the network's cells mentions, and the methods with these
            names, and so on.

    Attributes:
        uses: how often each `self.name` is read, `self.name is None` and the like aside.
        elsewhere: names of attributes that are read of other things than `self`.
        calls: layers in `construct` whose only input is the output of another, which goes
            nowhere else.
        hides_own: why any cell that is an attribute of `self` may be run elsewhere, too.
        hides_all: why any cell below `self` may be run elsewhere, too.
    """

    def __init__(self, methods: Methods, run: set[str]):
        in_use = [m for m in methods.all if not _only_sets_up(m, methods.all, run)]
        self._functions = [method.tree for method in in_use]
        attributes = [
            node
            for function in self._functions
            for parent in ast.walk(function)
            for node in ast.iter_child_nodes(parent)
            if isinstance(node, ast.Attribute) and not _is_tested(node, parent)
        ]
        self.uses = Counter(node.attr for node in attributes if attribute_of_self(node))
        self.elsewhere = {node.attr for node in attributes if not attribute_of_self(node)}
        self.calls = [
            call
            for function in self._functions
            if function.name == "construct"
            for call in calls_in(function)
        ]
        self._by_string: set[str] = set()
        self.hides_own: str | None = None
        self.hides_all = methods.unread
        for method in in_use:
            self._read_reflection(method, method.name in run or _is_dunder(method.name))

    def _read_reflection(self, method: Method, runs: bool) -> None:
        """Count what is read by names in strings; note what cannot be told."""
        for parent in ast.walk(method.tree):
            for node in ast.iter_child_nodes(parent):
                if isinstance(node, ast.Call) and name_of(node.func) == "getattr" and node.args:
                    self._read_getattr(node, method, runs)
                elif runs and _hands_on_self(node, parent):
                    self.hides_all = "the source hands on `self` as a whole"
                elif runs and (
                    name_of(node) in _READ_ANYTHING
                    or (isinstance(node, ast.Attribute) and node.attr in _HOLD_ANYTHING)
                ):
                    self.hides_all = "the source finds layers by other means than their names"

    def _read_getattr(self, call: ast.Call, method: Method, runs: bool) -> None:
        owner, *rest = call.args
        of_self = name_of(owner) == "self"
        match rest:
            case [ast.Constant(value=str(name)), *_]:
                if of_self:
                    self.uses[name] += 1
                    self._by_string.add(name)
                else:
                    self.elsewhere.add(name)
                return
        if not runs or inspect.ismodule(method.module.get(name_of(owner))):
            return
        reason = "the source finds layers by computed names"
        if of_self:
            self.hides_own = reason
        else:
            self.hides_all = reason

    def how_run(self, name: str) -> str:
        """How the cells in the container `self.name` are called: "chain", each with the output
        of the one before; "each", as a whole; "unknown".
        """
        ways = {way for f in self._functions for way in _ways_to_run(f, name)}
        for way in ("unknown", "each", "chain"):
            if way in ways and name not in self._by_string:
                return way
        return "unknown"


def _only_sets_up(method: Method, methods: list[Method], run: set[str]) -> bool:
    """Whether a method runs when the network is built, and then no more: `__init__` calls it,
    maybe by way of others, `construct` does not, and nothing keeps it.
    """
    if method.name == "__init__":
        return True
    if method.name in run or _is_dunder(method.name):
        return False
    return method.name in reached_from({"__init__"}, methods) and all(
        isinstance(parent, ast.Call) and parent.func is node
        for other in methods
        for parent in ast.walk(other.tree)
        for node in ast.iter_child_nodes(parent)
        if isinstance(node, ast.Attribute) and node.attr == method.name
    )


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__") and name != "__init__"


def _hands_on_self(node: ast.AST, parent: ast.AST) -> bool:
    """Whether `self` itself is a value, and not only asked for an attribute or its kind."""
    if name_of(node) != "self" or isinstance(parent, ast.Attribute):
        return False
    return not (isinstance(parent, ast.Call) and name_of(parent.func) in _ASK_ABOUT_SELF)


def _ways_to_run(function: ast.FunctionDef, name: str) -> Iterator[str]:
    for parent in ast.walk(function):
        for node in ast.iter_child_nodes(parent):
            if attribute_of_self(node) != name or _is_tested(node, parent):
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
    if any(reads(node, layer) and id(node) not in called for node in ast.walk(function)):
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
