"""Each thing that can be missing is named with its remedy."""

from __future__ import annotations

import shutil

import pytest

import bn3d
from bn3d.backends import ascend_obstacles
from bn3d.opp import node as of_node
from bn3d.opp.payload import InstallError

GOOD = {
    "location": "/opp/vendors/bn3d",
    "installed": True,
    "active": True,
    "version": bn3d.__version__,
    "arch": "aarch64",
    "built_with": "7.7.0",
    "socs": ["ascend910", "ascend910b"],
    "cann": "8.1.0",
    "accepted": True,
    "damaged": [],
    "searched": True,
    "shadowed_by": None,
}


@pytest.fixture(autouse=True)
def node(tmp_path, monkeypatch):
    """A node where nothing is missing."""
    header = tmp_path / "cann" / "include" / "acl" / "acl_base.h"
    header.parent.mkdir(parents=True)
    header.touch()
    opp = tmp_path / "cann" / "opp"
    (opp / "built-in" / "op_impl" / "ai_core" / "tbe" / "config" / "ascend910b").mkdir(parents=True)
    # MindSpore cuts the path at the first "opp"; pytest's directories have the test's name.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASCEND_OPP_PATH", "cann/opp")
    monkeypatch.setattr(ascend_obstacles, "status", lambda: GOOD)
    monkeypatch.setattr(ascend_obstacles, "soc_name", lambda: "ascend910b")
    monkeypatch.setattr(of_node, "_importable", lambda module: True)
    return tmp_path


def test_nothing_is_missing():
    assert ascend_obstacles.obstacle() is None


def test_a_device_of_unknown_name_is_no_obstacle(monkeypatch):
    monkeypatch.setattr(ascend_obstacles, "soc_name", lambda: None)
    assert ascend_obstacles.obstacle() is None


def test_no_toolkit(node):
    (node / "cann" / "include" / "acl" / "acl_base.h").unlink()
    assert "acl_base.h is missing" in ascend_obstacles.obstacle()
    assert "install the toolkit" in ascend_obstacles.obstacle()


def test_no_compiler(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert ascend_obstacles.obstacle().startswith("g++ is missing")


def test_an_unreadable_installation(monkeypatch):
    def unreadable():
        raise InstallError("/opp/x cannot be read: Permission denied")

    monkeypatch.setattr(ascend_obstacles, "status", unreadable)
    assert "Permission denied" in ascend_obstacles.obstacle()


@pytest.mark.parametrize("variable", ["ASCEND_OPP_PATH", "ASCEND_HOME_PATH"])
def test_a_place_that_cannot_be_looked_at(variable: str, monkeypatch):
    monkeypatch.setenv(variable, f"{'x' * 300}/opp")
    assert "File name too long" in ascend_obstacles.obstacle()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"version": "0.0.9"}, ("is of bn3d 0.0.9, this is", "bn3d opp install")),
        ({"accepted": False}, ("built with CANN 7.7.0", "CANN 8.1.0 does not load", "install")),
        ({"damaged": ["a.py", "b.py"]}, ("damaged (a.py, b.py)", "bn3d opp install")),
        ({"searched": False}, ("does not search", "source /opp/vendors/bn3d/bin/set_env.bash")),
        ({"shadowed_by": "/opp/vendors/x"}, ("/opp/vendors/x has operators", "remove it")),
        ({"socs": ["ascend310p"]}, ("has kernels for ascend310p, the device is ascend910b",)),
    ],
)
def test_a_package_that_is_not_used(monkeypatch, changed, said):
    monkeypatch.setattr(ascend_obstacles, "status", lambda: {**GOOD, **changed})
    obstacle = ascend_obstacles.obstacle()
    assert all(text in obstacle for text in said), obstacle


def test_no_package(monkeypatch):
    missing = {"location": "/opp/vendors/bn3d", "installed": False, "active": False}
    monkeypatch.setattr(ascend_obstacles, "status", lambda: missing)
    assert ascend_obstacles.obstacle() == (
        "the operator package is not installed in /opp/vendors/bn3d: run `bn3d opp install`"
    )


def test_everything_is_said_at_once(monkeypatch, node):
    monkeypatch.setattr(of_node, "_importable", lambda module: module != "decorator")
    monkeypatch.setattr(ascend_obstacles, "status", lambda: {**GOOD, "damaged": ["a.py"]})
    shutil.rmtree(node / "cann" / "opp" / "built-in")
    damaged, packages, operators = ascend_obstacles.obstacles()
    assert "is damaged" in damaged
    assert "needs the Python packages decorator" in packages
    assert "CANN's package of operators" in operators
    assert ascend_obstacles.obstacle() == damaged


def test_a_note_is_logged_and_no_obstacle(monkeypatch, caplog):
    monkeypatch.setattr(of_node, "notes", lambda soc: iter([f"beware of {soc}"]))
    assert ascend_obstacles.obstacle() is None
    assert caplog.messages == ["bn3d's operator package: beware of ascend910b"]
