"""`noxfile.py`: it installs again what has changed, from where pip would."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
INSTALLED = (
    "CMakeLists.txt",
    "CMakePresets.json",
    "pyproject.toml",
    "requirements-test.lock",
    "cmake/aarch64-linux-gnu.cmake",
    "op_impl/cpu/kernels.cc",
    "op_proto/bn3d_apply.cc",
    "python/bn3d/__init__.py",
)


@pytest.fixture
def noxfile(monkeypatch):
    """Its functions. nox is not in the environment of the tests."""
    monkeypatch.setitem(sys.modules, "nox", MagicMock())
    return runpy.run_path(str(REPOSITORY / "noxfile.py"))


@pytest.fixture
def root(tmp_path):
    for name in INSTALLED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", INSTALLED)
def test_a_change_of_what_is_installed_is_seen(root, noxfile, name):
    fingerprints = {noxfile["fingerprint"](root)}
    with (root / name).open("a") as file:
        file.write("\n")
    fingerprints.add(noxfile["fingerprint"](root))
    (root / name).rename(root / name.replace(".", "_renamed."))
    fingerprints.add(noxfile["fingerprint"](root))
    assert len(fingerprints) == 3


def test_what_running_leaves_behind_is_no_change(root, noxfile):
    before = noxfile["fingerprint"](root)
    for name in ("__init__.cpython-311.pyc", "libbn3d_cpu.so"):
        (root / "python" / "bn3d" / name).touch()
    assert noxfile["fingerprint"](root) == before


def test_uv_is_told_what_pip_is(noxfile, tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")) or name == "ALL_PROXY":
            monkeypatch.delenv(name)
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://one.example/simple\nproxy = http://proxy.example:3128\n"
        "extra-index-url =\n    https://two.example/simple\n    https://three.example/simple\n"
        "find-links = /wheels /more\n[install]\nconstraint = /here/constraints.txt\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_INDEX_URL", "https://four.example/simple")
    monkeypatch.setenv("ALL_PROXY", "http://other.example")
    found = noxfile["uv_settings"]()
    assert {name: found[name] for name in found if name.startswith("UV_")} == {
        "UV_DEFAULT_INDEX": "https://four.example/simple",  # a variable counts more than a file
        "UV_INDEX": "https://two.example/simple https://three.example/simple",
        "UV_FIND_LINKS": "/wheels,/more",
        "UV_CONSTRAINT": "/here/constraints.txt",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    assert "ALL_PROXY" not in found  # it is set


def test_the_lock_has_what_the_project_asks_for():
    """All but PyTorch, of which any build will do, each with a hash."""
    tomllib = pytest.importorskip("tomllib", reason="the lock is for Python 3.11")
    text = (REPOSITORY / "requirements-test.lock").read_text()
    pins = re.findall(r"^(\S+)==(\S+) \\\n    --hash=sha256:", text, re.MULTILINE)
    locked = {canonicalize_name(name): version for name, version in pins}
    assert len(locked) == text.count("==") > 50
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lists = (project["dependencies"], extras["cli"], extras["demo"], extras["test"])
    asked = [Requirement(text) for each in lists for text in each]
    assert len(asked) > 10
    for requirement in asked:
        name = canonicalize_name(requirement.name)
        if name not in ("bn3d", "torch"):
            assert locked[name] in requirement.specifier, requirement


def test_the_core_needs_only_what_its_session_installs(noxfile, tmp_path):
    for missing in ("matplotlib", "mkdocs", "nilearn", "sybil", "torch", "yaml"):
        (tmp_path / f"{missing}.py").write_text("raise ModuleNotFoundError(__name__)\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = (sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider")
    ran = subprocess.run(
        [*command, *noxfile["CORE"]],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-2000:]
