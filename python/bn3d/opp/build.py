"""Builds the package from the sources that a checkout or the wheel carries, with CMake."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from . import cann
from .package import find_sources, write_file

__all__ = ["BuildError", "build"]


class BuildError(RuntimeError):
    """CMake or the compiler failed; the message has what they said."""


def build(
    output: Path, arch: str | None = None, environment: Mapping[str, str] = os.environ
) -> Path:
    """Build the package into the directory `output`; returns the .run file.

    Args:
        output: created if need be.
        arch: "aarch64" or "x86_64"; default is this machine's. Another machine's is cross-built.
        environment: says where CANN is.

    Raises:
        CannError: CANN's headers were not found.
        BuildError: no CMake, no compiler, nothing can be written into `output` (all of that before
            anything is compiled), or the compiler failed.
    """
    arch = arch or platform.machine()
    presets = {"aarch64": "opp-aarch64", platform.machine(): "opp"}
    if arch not in presets:
        raise BuildError(f"cannot build for {arch} on {platform.machine()}, only for {[*presets]}")
    root = cann.include_dir(environment).parent
    sources = find_sources()
    _cmake()
    _check_writable(output)
    # A wheel's copy lies where nothing may be written.
    with tempfile.TemporaryDirectory(prefix="bn3d-opp-") as directory:
        configure = [_cmake(), "--preset", presets[arch], "-S", str(sources), "-B", directory]
        cache = [f"-DBN3D_CANN_ROOT={root}", f"-DPython3_EXECUTABLE={sys.executable}"]
        _run([*configure, *cache], sources)
        _run([_cmake(), "--build", directory, "--parallel"], sources)
        (built,) = Path(directory).glob("*.run")
        try:
            return write_file(output / built.name, built.read_bytes(), executable=True)
        except OSError as error:
            raise BuildError(f"cannot write into {output}: {error.strerror}") from error


def _check_writable(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output).close()
    except OSError as error:
        raise BuildError(f"cannot write into {output}: {error.strerror}") from error


def _cmake() -> str:
    beside = Path(sys.executable).with_name("cmake")  # pip installs it there
    found = str(beside) if beside.exists() else shutil.which("cmake")
    if found is None:
        raise BuildError("cmake was not found: pip install 'cmake>=3.21'")
    return found


def _run(command: list[str], directory: Path) -> None:
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, check=False, errors="replace"
    )
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}".rstrip())
