"""Public names say their types: those in `__all__`, and the methods of its classes."""

import ast
from pathlib import Path

import pytest

import bn3d

ROOT = Path(bn3d.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py") if "_package" not in path.parts)


def _is_called_from_outside(method):
    # MindSpore alone calls `bprop`, with what `construct` got.
    return method.startswith("__") or not method.startswith(("_", "bprop"))


def public_functions(tree):
    """Functions in `__all__`, and of its classes the methods that anyone calls."""
    listed = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    names = ast.literal_eval(listed[0]) if listed else ()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in names:
            yield node
        elif isinstance(node, ast.ClassDef) and node.name in names:
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and _is_called_from_outside(method.name):
                    yield method


def untyped(function):
    """The arguments without a type, and "return"."""
    given = function.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    missing = [
        each.arg
        for each in arguments
        if each is not None and each.annotation is None and each.arg not in ("self", "cls")
    ]
    # A constructor returns None.
    if function.returns is None and function.name != "__init__":
        missing.append("return")
    return missing


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_public_functions_say_their_types(path):
    if path == ROOT / "__init__.py":
        return  # its names are those of other modules
    tree = ast.parse(path.read_text())
    found = {
        f"line {f.lineno}, {f.name}": missing
        for f in public_functions(tree)
        if (missing := untyped(f))
    }
    assert not found


def test_untyped_finds_what_is_missing():
    (function,) = ast.parse("def f(self, a, b: int, *c, d=1, **e): pass").body
    assert untyped(function) == ["a", "d", "c", "e", "return"]
