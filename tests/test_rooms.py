"""The layout: no arrow between the rooms of the package runs up."""

import ast
from pathlib import Path

import pytest

import bn3d

ROOT = Path(bn3d.__file__).parent

# From the top; rooms of one floor do not import each other, but for networks and migrate.
FLOORS = [
    {"commands"},
    {"networks", "migrate"},
    {"layers"},
    {"backends"},
    {"opp"},
    {
        *("operators", "reference", "outputs", "interrupts"),
        *("convolutions", "float_environment", "tables", "user_code"),
        "mindspore_private",
    },
]


def floor(room):
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


def imports(path):
    """The modules of the package that a file imports, wherever in it, by their dotted names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            if node.module == "bn3d":
                yield from (f"bn3d.{alias.name}" for alias in node.names)
            elif node.module.startswith("bn3d."):
                yield node.module
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("bn3d."))


def room_of(path):
    return path.relative_to(ROOT).with_suffix("").parts[0]


MODULES = sorted(path for path in ROOT.rglob("*.py") if "_package" not in path.parts)


def test_every_module_is_in_a_room():
    assert {room_of(p) for p in MODULES} - {"__init__", "__main__"} == set().union(*FLOORS)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_import_runs_up(path):
    if room_of(path) in ("__init__", "__main__"):
        return
    for module in imports(path):
        room = module.split(".")[1]
        if room in set().union(*FLOORS):
            assert floor(room) >= floor(room_of(path)), f"{path} imports {module}"
