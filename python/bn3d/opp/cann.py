"""Where CANN is on this machine, and which versions fit together. Runs on Python 3.7."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

__all__ = [
    "DEFAULT_PLACES",
    "CannError",
    "accepts",
    "compiler_version",
    "find",
    "include_dir",
    "major_version",
    "required_versions",
    "short_version",
]

# Where its installer puts CANN, from 8.5 on and before.
DEFAULT_PLACES = ("/usr/local/Ascend/cann", "/usr/local/Ascend/ascend-toolkit")


class CannError(RuntimeError):
    """CANN is not where it should be, or not of a version that fits."""


def find(environment: Mapping[str, str] = os.environ) -> Path | None:
    """CANN's root by ASCEND_HOME_PATH or ASCEND_TOOLKIT_HOME, as its set_env.sh leaves them."""
    for variable in ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME"):
        if environment.get(variable):
            return Path(environment[variable]).absolute()
    if environment.get("ASCEND_OPP_PATH"):
        return Path(environment["ASCEND_OPP_PATH"]).absolute().parent
    return None


def include_dir(environment: Mapping[str, str] = os.environ) -> Path:
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
    try:
        there = (root / "include" / "graph" / "operator_reg.h").is_file()
    except OSError as error:
        raise CannError(f"{error.filename} cannot be read: {error.strerror}") from error
    if not there:
        raise CannError(
            f"no CANN headers in {root}: include/graph/operator_reg.h is missing; "
            "ASCEND_HOME_PATH must name a toolkit, not a runtime-only installation"
        )
    return root / "include"


def compiler_version(root: Path) -> str | None:
    """The version of CANN's compiler, such as "7.7.0.1.238"; None if it has none.

    Raises:
        CannError: this user may not read it.
    """
    for part in ("compiler", "runtime", "opp"):
        version = _version_info(root / part).get("Version")
        if version:
            return version
    return None


def major_version(root: Path) -> int | None:
    """8 for CANN 8.5; 7 stands for 8.0 and 8.1, too. None if it is not known."""
    number = re.match(r"\d+", compiler_version(root) or "")
    return int(number.group()) if number else None


def accepts(root: Path, version: str, vendor: Path | str = "") -> bool:
    """Whether the CANN at `root` loads a vendor directory built against the compiler `version`.

    The rule is the graph engine's, which says so in a log only if it skips a vendor: every number
    of `version`, a comma list, must lie in a range of required_opp_abi_version. A malformed list of
    ranges takes nothing, none at all takes everything, and so does a directory of "opp_latest".
    """
    required = required_versions(root)
    if required is None or "opp_latest" in str(vendor):
        return True
    ranges = _ranges(required)
    numbers = [_number(item) for item in version.split(",")]
    return ranges is not None and all(
        number is not None and (not ranges or any(low <= number <= high for low, high in ranges))
        for number in numbers
    )


def required_versions(root: Path) -> str | None:
    """The ranges that `accepts` compares with, such as ">=6.3, <=7.7"; None if there are none."""
    # A directory counts even if its file is missing.
    for part in ("compiler", "runtime"):
        if (root / part).is_dir():
            return _version_info(root / part).get("required_opp_abi_version") or None
    return None


def short_version(version: str) -> str:
    """Its first two numbers, which alone count: "7.7.0.1.238" -> "7.7"."""
    return ".".join(version.split(".")[:2])


def _ranges(required: str) -> list | None:
    """[(low, high)] of ">=6.3, <=7.7, 8.0"; None if it is malformed."""
    items = [item.strip() for item in required.split(",") if item.strip()]
    ranges = []
    while items:
        low = high = items.pop(0)
        if low.startswith(">="):
            if not items or not items[0].startswith("<="):
                return None
            low, high = low[2:], items.pop(0)[2:]
        pair = (_number(low), _number(high))
        if None in pair:
            return None
        ranges.append(pair)
    return ranges


def _number(version: str) -> int | None:
    """What the engine compares: 7.7 -> 770000, 3.20 -> 320000. None if it is no version."""
    major, minor = [*version.strip().split("."), "", ""][:2]
    if not (major.isdigit() and minor.isdigit()):
        return None
    return int(major + minor.ljust(5, "0"))


def _version_info(directory: Path) -> dict:
    try:
        text = (directory / "version.info").read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise CannError(f"{error.filename} cannot be read: {error.strerror}") from error
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key.strip(): value.replace('"', "").strip() for key, value in pairs}
