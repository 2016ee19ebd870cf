"""CANN's vendor directories: where bn3d goes, and in which order they count. Python 3.7."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from . import cann

__all__ = [
    "VENDOR",
    "Config",
    "custom_entries",
    "default_vendors_dir",
    "is_searched_by_config",
    "search_order",
]

VENDOR = "bn3d"
_KEY = "load_priority"


class Config:
    """`vendors/config.ini`, whose first line `load_priority=a,b` orders the vendors of an opp.

    The engine wants that line first, with at least one name. Everything else stays as it is.
    """

    def __init__(self, path: Path):
        self.path = Path(os.path.realpath(str(path)))  # a link stays one
        self.text = self.path.read_text() if self.path.exists() else None
        self._before = self.text

    @property
    def names(self) -> list:
        """The vendors that the engine finds, first is searched first."""
        return _found(self.text)

    def add(self, name: str) -> None:
        """Put `name` first, unless it is listed already."""
        if name not in self.names:
            value, rest = _split(self.text)
            others = [
                item
                for item in value.split(",")
                if item.strip() not in ("", name) and "=" not in item
            ]
            self._write(_join(",".join([name, *others]), rest))

    def remove(self, name: str, original: str | None = None) -> None:
        """Take `name` out; a file without any other becomes `original`, or goes."""
        value, rest = _split(self.text)
        if name not in _names(value):
            return
        items = [item for item in value.split(",") if item.strip() != name]
        if any(item.strip() for item in items):
            self._write(_join(",".join(items), rest))
        elif original is not None and not _found(original):
            self._write(original)
        else:
            self._write(None)

    def restore(self) -> None:
        """Write what was there when this object was made."""
        self._write(self._before)

    def _write(self, text: str | None) -> None:
        if text is None:
            if self.path.exists():
                self.path.unlink()
            self.text = None
            return
        partial = self.path.with_name(f".config.ini.{VENDOR}")
        try:
            if os.path.lexists(str(partial)):
                partial.unlink()
            with partial.open("x") as out:  # never through a link that somebody left there
                out.write(text)
            if self.path.exists():  # CANN's is often readable by its own user and group only
                old = self.path.stat()
                with contextlib.suppress(PermissionError):
                    os.chown(str(partial), old.st_uid, old.st_gid)
                partial.chmod(stat.S_IMODE(old.st_mode))
            else:
                partial.chmod(0o644)
            partial.replace(self.path)
        except BaseException:
            if partial.exists():
                partial.unlink()
            raise
        self.text = text


def _found(text: str | None) -> list:
    """What the engine makes of a config.ini: it reads the first line, whatever the key."""
    parts = [part for part in (text or "").partition("\n")[0].split("=") if part]
    return _names(parts[1]) if len(parts) == 2 else []


def _names(value: str) -> list:
    return [name.strip() for name in value.split(",") if name.strip()]


def _split(text: str | None) -> tuple:
    """The value of load_priority, and the other lines."""
    value, rest = "", []
    for line in (text or "").splitlines(keepends=True):
        key, _, after = line.partition("=")
        if key.strip() == _KEY:
            value = after.rstrip("\r\n")
        else:
            rest.append(line)
    return value, "".join(rest)


def _join(value: str, rest: str) -> str:
    return f"{_KEY}={value}\n{rest}"


def default_vendors_dir(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The vendors/ directory to install into; None if the environment names none.

    ASCEND_CUSTOM_OPP_PATH counts first. It is a list of vendor directories, not of roots: one of
    bn3d is upgraded where it is; otherwise bn3d goes beside the first one in a vendors/ directory.
    """
    custom = [Path(entry) for entry in custom_entries(environment)]
    for entry in custom:
        if entry.name == VENDOR:
            return entry.parent
    for entry in custom:
        if entry.parent.name == "vendors":
            return entry.parent
    if environment.get("ASCEND_OPP_PATH"):
        return Path(environment["ASCEND_OPP_PATH"]) / "vendors"
    return None


def is_searched_by_config(vendors: Path, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether CANN finds the vendors in `vendors` by its config.ini: it does in an opp only."""
    opp = environment.get("ASCEND_OPP_PATH")
    if opp and vendors == Path(opp).absolute() / "vendors":
        return True
    return vendors.name == "vendors" and (vendors.parent / "built-in").is_dir()


def search_order(environment: Mapping[str, str] = os.environ) -> list:
    """The vendor directories in CANN's order: ASCEND_CUSTOM_OPP_PATH, then opp by load_priority.

    CANN 9 takes entries of that variable first that have a libcust_opapi.so of their own.
    """
    order = [Path(entry) for entry in custom_entries(environment)]
    root = cann.find(environment)
    if root is not None and (cann.major_version(root) or 0) >= 9:
        order.sort(key=lambda entry: not (entry / "libcust_opapi.so").exists())
    if environment.get("ASCEND_OPP_PATH"):
        vendors = Path(environment["ASCEND_OPP_PATH"]).absolute() / "vendors"
        # As the engine joins them: a name that begins with / leads no further than any other.
        order += [Path(f"{vendors}/{name}") for name in Config(vendors / "config.ini").names]
    return order


def custom_entries(environment: Mapping[str, str] = os.environ) -> list:
    """What ASCEND_CUSTOM_OPP_PATH lists."""
    return [entry for entry in environment.get("ASCEND_CUSTOM_OPP_PATH", "").split(":") if entry]
