"""Where CANN is on this machine, and which versions fit together. Runs on Python 3.7."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = [
    "DEFAULT_PLACES",
    "CannError",
    "accepts",
    "compiler_version",
    "find",
    "include_dir",
    "required_versions",
    "short_version",
]

# Where its installer puts CANN, from 8.5 on and before.
DEFAULT_PLACES = ("/usr/local/Ascend/cann", "/usr/local/Ascend/ascend-toolkit")

# The first that exists counts, as in the graph engine.
_VERSION_FILES = ("compiler/version.info", "runtime/version.info", "opp/version.info")


class CannError(RuntimeError):
    """CANN is not where it should be, or not of a version that fits."""


def find(environment=os.environ) -> Path | None:
    """CANN's root by ASCEND_HOME_PATH or ASCEND_TOOLKIT_HOME, as its set_env.sh leaves them."""
    for variable in ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME"):
        if environment.get(variable):
            return Path(environment[variable])
    if environment.get("ASCEND_OPP_PATH"):
        return Path(environment["ASCEND_OPP_PATH"]).absolute().parent
    return None


def include_dir(environment=os.environ) -> Path:
    """The directory of CANN's headers.

    Raises:
        CannError: no variable points to a CANN with headers; the message says what to set.
    """
    root = find(environment)
    if root is None:
        raise CannError(
            "CANN was not found: source its set_env.sh, by default in "
            f"{' or '.join(DEFAULT_PLACES)}, or set ASCEND_HOME_PATH to the toolkit's directory"
        )
    if not (root / "include" / "graph" / "operator_reg.h").is_file():
        raise CannError(
            f"no CANN headers in {root}: include/graph/operator_reg.h is missing; "
            "ASCEND_HOME_PATH must name a toolkit, not a runtime-only installation"
        )
    return root / "include"


def compiler_version(root: Path) -> str | None:
    """The version of CANN's compiler, such as "7.7.0.1.238"; None if it has none."""
    return _version_info(root).get("Version")


def accepts(root: Path, version: str) -> bool:
    """Whether the CANN at `root` loads a package built against the compiler `version`.

    The engine skips a vendor outside of its required_opp_abi_version and says so in a log only.
    """
    required = _version_info(root).get("required_opp_abi_version")
    if not required:
        return True
    number = _number(version)
    low = None
    for item in required.split(","):
        bound = _number(item.strip(" <>="))
        if item.strip().startswith(">="):
            low = bound
        elif item.strip().startswith("<="):
            if low is not None and low <= number <= bound:
                return True
            low = None
        elif bound == number:
            return True
    return False


def required_versions(root: Path) -> str | None:
    """The range that `accepts` compares with, such as ">=6.3, <=7.7"."""
    return _version_info(root).get("required_opp_abi_version")


def short_version(version: str) -> str:
    """Its first two numbers, which alone count: "7.7.0.1.238" -> "7.7"."""
    return ".".join(version.split(".")[:2])


def _number(version: str) -> int:
    # The engine glues the first two numbers together and compares the result: 7.7 -> 77.
    digits = re.match(r"(\d+)\.(\d+)", version)
    if not digits:
        raise CannError(f"{version!r} is not a CANN version such as 7.7.0.1.238")
    return int(digits.group(1) + digits.group(2))


def _version_info(root: Path) -> dict:
    for name in _VERSION_FILES:
        if (root / name).is_file():
            lines = (root / name).read_text(errors="replace").splitlines()
            pairs = (line.split("=", 1) for line in lines if "=" in line)
            return {key.strip(): value.strip().strip('"') for key, value in pairs}
    return {}
