"""The source of the methods of a network's own class, and which of them run in `construct`."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

__all__ = ["Method", "Methods", "reached_from"]


@dataclass(frozen=True)
class Method:
    """A method, with its first argument called `self`, and the variables of its module."""

    name: str
    tree: ast.FunctionDef
    module: dict[str, object]


class Methods:
    """The methods of a class and of its bases, up to MindSpore's own.

    Attributes:
        all: the methods; those that another one shadows only where `super` may run them.
        unread: why what the class does is not known, None if all could be read.
    """

    def __init__(self, kind: type):
        self.all: list[Method] = []
        self.unread: str | None = None
        shadowed, names = [], set()
        for base in kind.__mro__:
            if base is object or base.__module__.startswith("mindspore."):
                continue
            for name, function in _functions(base):
                method = _read(name, function, base)
                if method is None:
                    self.unread = f"{base.__qualname__}.{name} cannot be read, or is decorated"
                elif (name, base) not in names and any(name == other for other, _ in names):
                    shadowed.append(method)
                else:
                    self.all.append(method)
                names.add((name, base))
        if any(_reads_super(m.tree) for m in self.all if m.name != "__init__"):
            self.all += shadowed


def reached_from(starts: set[str], methods: list[Method]) -> set[str]:
    """The names that the methods with the names `starts` mention, and those that these do."""
    reached: set[str] = set()
    todo = set(starts)
    while todo:
        reached |= todo
        todo = _named_in(m for m in methods if m.name in todo) - reached
    return reached


def _named_in(methods: Iterable[Method]) -> set[str]:
    """Every name of an attribute, and every string, in the source of some methods."""
    found = set()
    for method in methods:
        for node in ast.walk(method.tree):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def _functions(kind: type) -> Iterator[tuple[str, Callable]]:
    for name, value in vars(kind).items():
        match value:
            case staticmethod() | classmethod():
                parts = [value.__func__]
            case property():
                parts = [value.fget, value.fset, value.fdel]
            case functools.cached_property() | functools.partialmethod():
                parts = [value.func]
            case type():
                parts = []
            case _:  # a function, or an object that keeps some
                parts = [value, *getattr(value, "__dict__", {}).values()]
        yield from ((name, part) for part in parts if inspect.isfunction(part))


def _read(name: str, function: Callable, kind: type) -> Method | None:
    while hasattr(function, "__wrapped__"):
        if not str(function.__globals__.get("__name__")).startswith("mindspore."):
            return None  # what a decorator adds is not in the source of the method
        function = function.__wrapped__
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return None
    if not isinstance(tree, ast.FunctionDef) or tree.name not in vars(kind):
        return None  # a lambda, or what a decorator made of the method
    return Method(name, _with_self(tree), function.__globals__)


def _with_self(tree: ast.FunctionDef) -> ast.FunctionDef:
    arguments = [*tree.args.posonlyargs, *tree.args.args]
    if arguments and arguments[0].arg != "self":
        first = arguments[0].arg
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id == first:
                node.id = "self"
    return tree


def _reads_super(tree: ast.FunctionDef) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "super" for node in ast.walk(tree))
