"""`scripts/setup_venv.sh`: it installs again when something that is installed has changed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

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
def root(tmp_path):
    for name in (*INSTALLED, "scripts/setup_venv.sh"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    return tmp_path


def fingerprint(root: Path) -> str:
    command = 'source "$1" && fingerprint'
    script = root / "scripts" / "setup_venv.sh"
    done = subprocess.run(
        ["bash", "-euc", command, "bash", script], capture_output=True, text=True, check=True
    )
    assert not done.stderr
    return done.stdout


@pytest.mark.parametrize("name", INSTALLED)
def test_a_change_of_what_is_installed_is_seen(root, name):
    before = fingerprint(root)
    with (root / name).open("a") as file:
        file.write("\n")
    assert fingerprint(root) != before


def test_what_running_leaves_behind_is_no_change(root):
    before = fingerprint(root)
    for name in ("__init__.cpython-311.pyc", "libbn3d_cpu.so"):
        (root / "python" / "bn3d" / name).touch()
    assert fingerprint(root) == before


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
