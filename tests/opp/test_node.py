"""What of a node keeps operators from running: each thing said in one line, with what to do."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from bn3d.opp import node as of_node
from bn3d.opp.node import notes, obstacles

from .conftest import REPOSITORY, environment

CONFIG = "opp/built-in/op_impl/ai_core/tbe/config"
KERNELS = "opp/built-in/op_impl/ai_core/tbe/kernel/config"


@pytest.fixture(autouse=True)
def sound(node: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node that lacks nothing: a 910A with CANN 8.1."""
    (node / CONFIG / "ascend910").mkdir(parents=True)
    monkeypatch.setattr(of_node, "_importable", lambda module: True)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.26.4")
    return node


def of_version(node: Path, version: str) -> Path:
    (node / "compiler" / "version.info").write_text(f"Version={version}\n")
    return node


def test_nothing_is_wrong(node: Path):
    for soc in ("ascend910", None):
        assert not list(obstacles(soc, environment(node)))
        assert not list(notes(soc, environment(node)))


def test_missing_packages_are_found_without_importing_tbe(node: Path, monkeypatch):
    monkeypatch.setattr(of_node, "_importable", lambda module: module not in ("attr", "sympy"))
    (text,) = obstacles("ascend910", environment(node))
    assert "needs the Python packages sympy, attrs, which" in text
    assert text.endswith(f"{sys.executable} -m pip install sympy attrs")


def test_a_package_that_is_there_is_found():
    """In a process of its own: `sound` has patched this one."""
    program = (
        "from bn3d.opp.node import _importable as f; import sys\n"
        "assert f('json') and not f('no_such_module_of_anybody')\n"
        "sys.modules['gone'] = None\n"
        "assert not f('gone')\n"
        "assert not {'tbe', 'te', 'numpy'} & set(sys.modules)\n"
    )
    path = {"PYTHONPATH": str(REPOSITORY / "python")}
    subprocess.run([sys.executable, "-c", program], check=True, env=path)


@pytest.mark.parametrize(
    ("version", "numpy", "refused"),
    [
        ("7.7.0.1.238", "2.2.6", True),
        ("8.5.0", "2.0.0", True),
        ("8.5.0", "1.26.4", False),
        ("9.0.0", "2.2.6", False),
    ],
)
def test_numpy_2_only_with_cann_9(node: Path, version: str, numpy: str, refused: bool, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: numpy)
    found = list(obstacles("ascend910", environment(of_version(node, version))))
    assert len(found) == refused
    if refused:
        assert f"NumPy is {numpy}" in found[0] and found[0].endswith("pip install 'numpy<2'")


@pytest.mark.parametrize(
    ("soc", "name"),
    [("ascend910b", "Ascend-cann-910b-ops"), ("ascend910_93", "Ascend-cann-A3-ops")],
)
def test_operators_for_another_chip(node: Path, soc: str, name: str):
    (text,) = obstacles(soc, environment(node))
    assert f"is for ascend910, the device is {soc} " in text and name in text


def test_operators_are_missing(node: Path):
    (node / CONFIG / "ascend910").rmdir()
    (text,) = obstacles("ascend910", environment(node))
    assert "is missing, the device is ascend910 " in text and "Ascend-cann-910-ops" in text


def test_kernels_for_another_chip(node: Path):
    (node / KERNELS / "ascend910b").mkdir(parents=True)
    (text,) = notes("ascend910", environment(node))
    assert "are for ascend910b, the device is ascend910: install Ascend-cann-910-ops" in text


def test_an_operator_of_cann_with_our_name(node: Path):
    path = node / CONFIG / "ascend910" / "aic-ascend910-ops-info.json"
    for content in ({"Add": {}}, [], 3):
        path.write_text(json.dumps(content))
        assert not list(obstacles("ascend910", environment(node)))
    path.write_text(json.dumps({"Add": {}, "Bn3dApply": {}}))
    for soc in ("ascend910", None):
        (text,) = obstacles(soc, environment(node))
        assert "operators of its own that are called Bn3dApply" in text and str(path) in text


@pytest.mark.parametrize(
    "name", ["libcust_opapi.so", f"op_graph/lib/linux/{platform.machine()}/libx.so"]
)
def test_a_library_of_another_vendor_that_cannot_be_loaded(node: Path, tmp_path: Path, name: str):
    library = tmp_path / "other" / name
    library.parent.mkdir(parents=True)
    library.write_text("nonsense" * 20)
    custom = environment(node, ASCEND_CUSTOM_OPP_PATH=f"{tmp_path}/none:{tmp_path}/other")
    assert not list(obstacles("ascend910", custom))  # before CANN 9 nobody loads it
    of_version(node, "9.0.0")
    (text,) = obstacles("ascend910", custom)
    assert text.startswith(f"{library} cannot be loaded (invalid ELF header), at which CANN 9")
    assert f"take {tmp_path}/other out of ASCEND_CUSTOM_OPP_PATH" in text
    subprocess.run(["g++", "-shared", "-fPIC", "-x", "c++", "/dev/null", "-o", library], check=True)
    assert not list(obstacles("ascend910", custom))


def test_a_path_that_was_set_after_the_start(node: Path, tmp_path: Path):
    """Only where bn3d is found by it, and not for what MindSpore adds to it by itself."""
    ours = tmp_path / "vendors" / "bn3d"
    program = (
        "import os, sys\n"
        "from bn3d.opp.node import notes\n"
        "os.environ['ASCEND_CUSTOM_OPP_PATH'] = sys.argv[1]\n"
        "print(*notes(None), sep='\\n', end='')\n"
    )

    def said(before: str, after: str) -> str:
        variables = environment(node, PYTHONPATH=str(REPOSITORY / "python"))
        variables["ASCEND_CUSTOM_OPP_PATH"] = before
        command = [sys.executable, "-c", program, after]
        return subprocess.run(
            command, env=variables, capture_output=True, text=True, check=True
        ).stdout

    late = said("", str(ours))
    assert f"got {ours} after this process had started" in late
    assert late.endswith(f"source {ours}/bin/set_env.bash before Python starts")
    assert not said(str(ours), f"{ours}:/x/other")
    assert not said("", "/x/vendors/other")
    assert not said("", f"{node}/opp/vendors/bn3d")  # config.ini names it


def test_where_the_system_does_not_say_how_it_was_started(node: Path, monkeypatch, tmp_path: Path):
    monkeypatch.setattr(of_node, "_started_with", lambda: None)
    assert not list(notes(None, environment(node, ASCEND_CUSTOM_OPP_PATH=f"{tmp_path}/bn3d")))
