"""CANN's vendor directories: where bn3d goes, and in which order they count. Python 3.7."""

from __future__ import annotations

import contextlib
import os
import re
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
_KEY = b"load_priority"


class Config:
    """`vendors/config.ini`, whose first line `load_priority=a,b` orders the vendors of an opp.

    It is read as the engine reads it: the first line alone, whatever its key. Everything else stays
    as it is, byte for byte.
    """

    def __init__(self, path: Path):
        self.path = Path(os.path.realpath(str(path)))  # a link stays one
        self._now = self._before = self.path.read_bytes() if self.path.exists() else None

    @property
    def text(self) -> str | None:
        """What is in the file, as `remove` takes it, whatever its encoding; None without a file."""
        return None if self._now is None else self._now.decode("utf-8", "surrogateescape")

    @property
    def names(self) -> list:
        """The vendors that the engine finds, first is searched first."""
        return [os.fsdecode(name) for name in _found(self._now)]

    def add(self, name: str) -> None:
        """Put `name` first, unless it is listed already."""
        if name not in self.names:
            self._write(_added(self._now, name.encode()))

    def remove(self, name: str, original: str | None = None) -> None:
        """Take `name` out.

        Args:
            name: a file without any other vendor, or anything else in it, goes.
            original: the `text` before `add`. It is put back if nothing was changed since.
        """
        if name not in self.names:
            return
        ours = name.encode()
        before = None if original is None else original.encode("utf-8", "surrogateescape")
        if ours not in _found(before) and self._now == _added(before, ours):
            self._write(before)
            return
        start, value, end, rest = _split(self._now)
        items = [item for item in value.split(b",") if item.strip() != ours]
        # Without vendors it stays the first line: the engine would take another for it.
        kept = any(item.strip() for item in [*items, rest])
        self._write(start + b",".join(items) + end + rest if kept else None)

    def restore(self) -> None:
        """Write what was there when this object was made."""
        self._write(self._before)

    def _write(self, content: bytes | None) -> None:
        if content is None:
            if self.path.exists():
                self.path.unlink()
            self._now = None
            return
        partial = self.path.with_name(f".config.ini.{VENDOR}")
        try:
            if os.path.lexists(str(partial)):
                partial.unlink()
            with partial.open("xb") as out:  # never through a link that somebody left there
                out.write(content)
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
        self._now = content


def _found(content: bytes | None) -> list:
    """The vendors that the engine finds in a config.ini."""
    return [item.strip() for item in _split(content)[1].split(b",") if item.strip()]


def _added(content: bytes | None, name: bytes) -> bytes:
    """A config.ini with `name` as the first vendor."""
    start, value, end, rest = _split(content)
    if _found(content):
        return start + name + b"," + value + end + rest
    if _KEY in start:
        return start + name + end + rest
    return _KEY + b"=" + name + b"\n" + (content or b"")


def _split(content: bytes | None) -> tuple:
    """What is before the names of the first line, the names, what is after them, other lines.

    The engine wants two parts that are not empty between the "=" of that line. If they are not
    there, all of the file is in the last of the four.
    """
    line, newline, rest = (content or b"").partition(b"\n")
    parts = re.fullmatch(rb"(=*[^=]+=+)([^=]*?)(\s*=*)", line)
    if parts is None:
        return b"", b"", b"", content or b""
    return parts.group(1), parts.group(2), parts.group(3) + newline, rest


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
    try:
        return vendors.name == "vendors" and (vendors.parent / "built-in").is_dir()
    except OSError:  # where this user may not look, CANN finds nothing either
        return False


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
