"""A CANN made for the tests, and the package built with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from bn3d.opp import build
from bn3d.opp.payload import Package

REPOSITORY = Path(__file__).parents[2]
FAKE_CANN = Path(__file__).parent / "fake_cann"
VERSION_INFO = 'Version=7.7.0.1.238\nrequired_opp_abi_version=">=6.3, <=7.7"\n'


def compile_graph(include: Path, directory: Path, *options: str, compiler: str = "g++") -> Path:
    """Compile the stand-in of libgraph.so and the driver against `include`; returns the driver."""
    common = [compiler, "-std=c++11", *options, f"-I{include}", f"-I{FAKE_CANN}"]
    library, driver = directory / "libgraph.so", directory / "driver"
    shared = ["-shared", "-fPIC", "-Wl,-soname,libgraph.so", "-o", str(library)]
    subprocess.run([*common, str(FAKE_CANN / "libgraph.cc"), *shared], check=True)
    linked = ["-o", str(driver), str(library), "-ldl", f"-Wl,-rpath,{directory}"]
    subprocess.run([*common, str(FAKE_CANN / "driver.cc"), *linked], check=True)
    return driver


@pytest.fixture(scope="session")
def cann(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a CANN: headers, libgraph.so, a driver beside it, version.info."""
    root = tmp_path_factory.mktemp("cann")
    shutil.copytree(FAKE_CANN / "include", root / "include")
    (root / "lib64").mkdir()
    compile_graph(root / "include", root / "lib64")
    (root / "compiler").mkdir()
    (root / "compiler" / "version.info").write_text(VERSION_INFO)
    return root


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of the repository's sources, to be broken."""
    root = tmp_path / "sources"
    root.mkdir()
    for name in ("CMakeLists.txt", "CMakePresets.json"):
        shutil.copy(REPOSITORY / name, root)
    shutil.copytree(REPOSITORY / "op_proto", root / "op_proto")
    shutil.copytree(REPOSITORY / "op_impl" / "ai_core", root / "op_impl" / "ai_core")
    for name in ("cmake", "python"):
        (root / name).symlink_to(REPOSITORY / name)
    return root


@pytest.fixture(scope="session")
def run_file(cann: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built by CMake for this machine."""
    return build.build(tmp_path_factory.mktemp("built"), environment=environment(cann))


@pytest.fixture(scope="session")
def library(run_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prototype library in the package."""
    return extract_library(run_file, tmp_path_factory.mktemp("library"))


def extract_library(run_file: Path, directory: Path) -> Path:
    with zipfile.ZipFile(run_file) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".so")]
        return Path(archive.extract(name, directory))


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A CANN as on a node: an opp with built-in operators, and no vendors."""
    root = tmp_path / "cann"
    (root / "opp" / "built-in").mkdir(parents=True)
    (root / "compiler").mkdir()
    (root / "compiler" / "version.info").write_text(VERSION_INFO)
    return root


@pytest.fixture
def parsed(run_file: Path) -> Package:
    return Package.open(run_file)


def environment(cann: Path, **variables: str) -> dict[str, str]:
    """What set_env.sh of the CANN at `cann` leaves."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ASCEND_")}
    return {
        **kept,
        "ASCEND_HOME_PATH": str(cann),
        "ASCEND_OPP_PATH": str(cann / "opp"),
        **variables,
    }


def tree(directory: Path) -> dict[str, str]:
    """Everything below a directory by its path: contents of files, "" for directories."""
    return {
        str(path.relative_to(directory)): path.read_text(errors="replace") if path.is_file() else ""
        for path in sorted(directory.rglob("*"))
    }


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())
