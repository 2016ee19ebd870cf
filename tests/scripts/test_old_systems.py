"""The library as wheels have it: `BN3D_OLD_SYSTEMS` lets it load on older systems than this one."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bn3d
from bn3d.backends import library as installed

REPOSITORY = Path(__file__).parents[2]
MACHINE = platform.machine()
# What auditwheel allows for manylinux_2_28: openEuler 20.03 has this glibc, and GCC 7.3.
LIMITS = {"GLIBC": (2, 28), "GLIBCXX": (3, 4, 24), "CXXABI": (1, 3, 11), "GCC": (7, 0, 0)}

pytestmark = pytest.mark.skipif(
    not (shutil.which("cmake") and shutil.which("g++")), reason="needs cmake and g++"
)


@pytest.fixture(scope="module", params=["x86_64", "aarch64"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """The architecture and the build directory with the library and its driver."""
    arch = request.param
    if arch != MACHINE and not (arch == "aarch64" and shutil.which("aarch64-linux-gnu-g++")):
        pytest.skip(f"no compiler for {arch}: apt-get install g++-aarch64-linux-gnu")
    build = tmp_path_factory.mktemp(arch)
    options = ["-DBN3D_OLD_SYSTEMS=ON"]
    if arch != MACHINE:
        options += [
            "-DBN3D_NATIVE_TESTS=ON",
            "-DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake",
        ]
    configure = ["cmake", "-S", ".", "-B", build, *options]
    for command in (configure, ["cmake", "--build", build, "--parallel"]):
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return arch, build


def library(build: Path) -> Path:
    return build / "op_impl" / "cpu" / "libbn3d_cpu.so"


def test_it_asks_for_no_newer_symbols_than_old_systems_have(built):
    asked = subprocess.run(
        ["readelf", "--wide", "--dyn-syms", library(built[1])],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    versions = re.findall(r" UND \S+@+([A-Z]+)_([\d.]+)", asked)
    assert {kind for kind, _ in versions} == set(LIMITS)
    newer = [
        f"{kind}_{version}"
        for kind, version in versions
        if tuple(map(int, version.split("."))) > LIMITS[kind]
    ]
    assert not newer


def test_it_exports_nothing_of_what_it_took_from_archives(built):
    lines = subprocess.run(
        ["nm", "--dynamic", "--defined-only", library(built[1])],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    exported = {name for _, kind, name in map(str.split, lines) if kind in "TDBR"}
    assert {"Bn3dReduce", "bn3d_version"} <= exported
    assert {name for name in exported if not name.lower().startswith("bn3d")} == set()


@pytest.mark.skipif(MACHINE == "aarch64", reason="tests/native/test_native_driver.py runs it")
@pytest.mark.parametrize("built", ["aarch64"], indirect=True)
def test_the_driver_finds_nothing_wrong_on_aarch64(built):
    """Small volumes, and calls that end in an exception."""
    _, build = built
    if not shutil.which("qemu-aarch64"):
        pytest.skip("no emulator: apt-get install qemu-user")
    driver = build / "tests" / "native" / "driver"
    command = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", driver, library(build), "2000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 failed, digest " in done.stdout


# A step in either mode, and a refusal by the library, which throws for MindSpore to catch.
STEPS = """
import hashlib, sys
import mindspore as ms, numpy as np
import bn3d
from bn3d.backends import native
assert str(native._LIBRARY.path) == sys.argv[1], native._LIBRARY
random = np.random.default_rng(0)
x, dy = (ms.Tensor(random.standard_normal((2, 3, 4, 5, 6)).astype(np.float32)) for _ in "xy")
digest = hashlib.sha256()
for mode in (ms.PYNATIVE_MODE, ms.GRAPH_MODE):
    ms.set_context(mode=mode)
    layer = bn3d.BatchNorm3d(3).set_train()
    loss = lambda x: (layer(x) * dy).sum()
    for value in (ms.grad(loss)(x), layer.bn2d.moving_mean, layer.bn2d.moving_variance):
        digest.update(value.asnumpy().tobytes())
    try:
        apply = native.BACKEND.operators.apply
        apply(x, *(ms.Tensor(np.ones(4, np.float32)) for _ in range(3))).asnumpy()
    except RuntimeError as error:
        assert "must have shape (3,), got float32 (4,)" in str(error), error
    else:
        raise AssertionError("not refused")
print(digest.hexdigest())
"""


@pytest.mark.parametrize("built", [MACHINE], indirect=True)
def test_mindspore_computes_with_it_as_with_the_one_installed(built, tmp_path):
    _, build = built
    package = tmp_path / "bn3d"
    shutil.copytree(Path(bn3d.__file__).parent, package)
    script = tmp_path / "steps.py"  # MindSpore compiles no function that is in no file
    script.write_text(STEPS)
    digests = []
    for file in (installed.load().path, library(build)):
        (package / file.name).unlink(missing_ok=True)
        shutil.copy(file, package)
        done = subprocess.run(
            [sys.executable, script, package / file.name],
            env={**os.environ, "PYTHONPATH": str(tmp_path), "BN3D_BACKEND": "native"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        digests.append(done.stdout.split()[-1])
    assert digests[0] == digests[1]
