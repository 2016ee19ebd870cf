"""What on this node keeps CANN from compiling or loading operators, each with its remedy.

Nothing of CANN is imported: a package is looked for, a library is tried in a process of its own.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..operators import OPERATORS
from . import cann
from .installer import SET_ENV
from .support import SOCS
from .vendors import VENDOR, custom_entries, is_searched_by_config

__all__ = ["notes", "obstacles"]

# Module and what pip calls it: what the compiler of operators imports, by the sources of CANN 8.1
# and the requirements of its wheels. The images of CANN 8.5 come without them.
_PYTHON_PACKAGES = {
    "decorator": "decorator",
    "sympy": "sympy",
    "attr": "attrs",
    "psutil": "psutil",
    "scipy": "scipy",
}
_CONFIG = "op_impl/ai_core/tbe/config"
_KERNELS = "built-in/op_impl/ai_core/tbe/kernel/config"
_TRY = "import ctypes, os, sys; ctypes.CDLL(sys.argv[1], os.RTLD_NOW)"


def obstacles(soc: str | None, environment: Mapping[str, str] = os.environ) -> Iterator[str]:
    """What makes the operators, or every graph, fail.

    Args:
        soc: as CANN's directories spell it, such as "ascend910b"; None if unknown.
        environment: says where CANN is.
    """
    root = cann.find(environment)
    opp = environment.get("ASCEND_OPP_PATH")
    yield from _python_packages(root)
    if opp:
        yield from _ops_package(Path(opp), soc)
        yield from _built_in(Path(opp), soc)
    if root is not None and (cann.major_version(root) or 0) >= 9:
        yield from _unloadable(environment)


def notes(soc: str | None, environment: Mapping[str, str] = os.environ) -> Iterator[str]:
    """What may make them fail; the arguments are those of `obstacles`."""
    opp = environment.get("ASCEND_OPP_PATH")
    if opp and soc:
        there = _names(Path(opp) / _KERNELS)
        if there and soc not in there:
            yield (
                f"CANN's own kernels in {Path(opp) / _KERNELS} are for {', '.join(there)}, the "
                f"device is {soc}: install {_ops_name(soc)}"
            )
    yield from _set_late(environment)


def _python_packages(root: Path | None) -> Iterator[str]:
    missing = [name for module, name in _PYTHON_PACKAGES.items() if not _importable(module)]
    if missing:
        yield (
            f"CANN's compiler of operators needs the Python packages {', '.join(missing)}, which "
            f"{sys.executable} does not have: {sys.executable} -m pip install {' '.join(missing)}"
        )
    try:
        numpy = importlib.metadata.version("numpy")
    except importlib.metadata.PackageNotFoundError:
        return
    if root is not None and (cann.major_version(root) or 9) < 9 and int(numpy.split(".")[0]) >= 2:
        yield (
            f"NumPy is {numpy}, and the compiler of operators of CANN "
            f"{cann.compiler_version(root)} cannot be imported with 2.0 or later: "
            f"{sys.executable} -m pip install 'numpy<2'"
        )


def _importable(module: str) -> bool:
    if module in sys.modules:
        return sys.modules[module] is not None
    return importlib.util.find_spec(module) is not None


def _ops_package(opp: Path, soc: str | None) -> Iterator[str]:
    directory = opp / "built-in" / _CONFIG
    there = _names(directory)
    if soc is None or soc in there:
        return
    has = f"is for {', '.join(there)}" if there else "is missing"
    yield (
        f"CANN's package of operators in {opp} {has}, the device is {soc} ({directory / soc} is "
        f"not there): install {_ops_name(soc)}"
    )


def _ops_name(soc: str) -> str:
    names = {known.name: known.ops_package for known in SOCS}
    return (
        f"Ascend-cann-{names.get(soc, soc.replace('ascend', ''))}-ops of the same version "
        "(up to CANN 8.3 it is called Ascend-cann-kernels)"
    )


def _built_in(opp: Path, soc: str | None) -> Iterator[str]:
    ours = {operator.type for operator in OPERATORS}
    for name in [soc] if soc else [known.name for known in SOCS]:
        for path in sorted((opp / "built-in" / _CONFIG / name).glob("*.json")):
            try:
                found = ours.intersection(json.loads(path.read_text()))
            except (OSError, ValueError, TypeError):
                continue
            if found:
                yield (
                    f"CANN has operators of its own that are called {', '.join(sorted(found))} "
                    f"({path}): which of them computes is not known; install a bn3d that was made "
                    "for this CANN"
                )
                return


def _unloadable(environment: Mapping[str, str]) -> Iterator[str]:
    """Libraries that CANN 9 loads from entries of the path; it gives up at the first that fails."""
    libraries = f"op_graph/lib/linux/{platform.machine()}"
    for entry in custom_entries(environment):
        for path in (Path(entry) / "libcust_opapi.so", *_files(Path(entry) / libraries)):
            if not path.is_file():
                continue
            error = _load_error(path, environment)
            if error:
                yield (
                    f"{path} cannot be loaded ({error}), at which CANN 9 ends every graph: take "
                    f"{entry} out of ASCEND_CUSTOM_OPP_PATH, or repair it"
                )


def _load_error(path: Path, environment: Mapping[str, str]) -> str:
    command = [sys.executable, "-c", _TRY, str(path)]
    try:
        done = subprocess.run(
            command,
            env=dict(environment),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "loading takes more than 30 s"
    if done.returncode == 0:
        return ""
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return last.removeprefix("OSError: ").removeprefix(f"{path}: ")


def _set_late(environment: Mapping[str, str]) -> Iterator[str]:
    """bn3d found by a variable that the process did not start with."""
    ours = [entry for entry in custom_entries(environment) if Path(entry).name == VENDOR]
    if not ours or any(is_searched_by_config(Path(entry).parent, environment) for entry in ours):
        return
    started = _started_with()
    if started is not None and not set(ours) & set(custom_entries(started)):
        yield (
            f"ASCEND_CUSTOM_OPP_PATH got {ours[0]} after this process had started, and whatever "
            f"read it earlier does not know: source {ours[0]}/{SET_ENV} before Python starts"
        )


def _started_with() -> dict[str, str] | None:
    """The environment that this process was started with; None where the system does not say."""
    try:
        raw = Path("/proc/self/environ").read_bytes()
    except OSError:
        return None
    pairs = (item.partition("=") for item in os.fsdecode(raw).split("\0") if "=" in item)
    return {name: value for name, _, value in pairs}


def _names(directory: Path) -> list[str]:
    return [path.name for path in _files(directory)]


def _files(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []
