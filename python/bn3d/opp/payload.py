"""Reads the built package, and checks it. Runs on Python 3.7."""

from __future__ import annotations

import hashlib
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

__all__ = ["InstallError", "Package", "check_names", "parse_info", "parse_sums", "read_info"]

_FOLDER = "package/"
_MOST_FILES = 1000
_MOST_BYTES = 64 << 20  # a package has less than 1 MiB

# ASCII alone, so that no two names are the same after normalisation, and no leading dot or dash.
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}\Z", re.ASCII)
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+-]{0,49}\Z", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9_]{1,49}\Z", re.ASCII)
# What the installer itself writes beside the package's files.
_RESERVED = ("install.json", "bin")


class InstallError(RuntimeError):
    """The package was not installed or removed, and nothing has changed."""


class Package:
    """The vendor tree of a package.

    Attributes:
        files: contents by path in the vendor directory; no path leads out of it.
        info: version.info as a dictionary.

    Raises:
        InstallError: a file is missing, has changed, or has a name that must not be.
    """

    def __init__(self, files: dict):
        check_names(files)
        self.files = files
        try:
            self.info = parse_info(_text(files, "version.info"))
            listed = parse_sums(_text(files, "SHA256SUMS"))
        except KeyError as error:
            raise InstallError(f"the package has no {error}") from error
        if set(listed) | {"SHA256SUMS"} != set(files):
            raise InstallError("the package is incomplete: its files are not those of SHA256SUMS")
        for name, digest in listed.items():
            if hashlib.sha256(files[name]).hexdigest() != digest:
                raise InstallError(f"the package is damaged: {name} has changed")
        for key, form in (("bn3d_version", _VERSION), ("bn3d_arch", _WORD)):
            if not form.match(self.info.get(key, "")):
                raise InstallError(
                    f"the package's version.info must have a {key}, got {self.info.get(key)!r}"
                )

    @classmethod
    def open(cls, path: Path) -> Package:
        """Read a .run file. Nothing is unpacked.

        Raises:
            InstallError: it is no package, is damaged, or an entry is not a plain file inside it.
        """
        try:
            if Path(path).exists() and not Path(path).is_file():
                raise InstallError(f"{path} is not a readable package: it is no file")
            with zipfile.ZipFile(str(path)) as archive:
                entries = [e for e in archive.infolist() if e.filename.startswith(_FOLDER)]
                _check_entries(entries)
                return cls({e.filename[len(_FOLDER) :]: archive.read(e) for e in entries})
        except (
            OSError,
            EOFError,
            RuntimeError,  # encrypted, or compressed in a way that Python cannot read
            ValueError,
            struct.error,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            if isinstance(error, InstallError):
                raise
            raise InstallError(f"{path} is not a readable package: {error}") from error

    @property
    def version(self) -> str:
        return self.info["bn3d_version"]

    @property
    def size(self) -> int:
        return sum(len(data) for data in self.files.values())


def check_names(names: Iterable[str]) -> None:
    """Raise InstallError unless all are relative paths of different files in one directory."""
    # Of every path and its parents, in lower case: the path itself, and "file" or "directory".
    kinds: dict[str, tuple[str, str]] = {}
    for name in names:
        parts = name.split("/")
        if not all(_PART.match(part) for part in parts) or parts[0].lower() in _RESERVED:
            raise InstallError(f"the package has a file of a name that it must not have: {name!r}")
        for depth in range(1, len(parts) + 1):
            path = "/".join(parts[:depth])
            kind = (path, "file" if depth == len(parts) else "directory")
            other = kinds.setdefault(path.lower(), kind)
            if other != kind or (kind[1] == "file" and other is not kind):
                raise InstallError(f"the package has two files of one name: {other[0]} and {path}")


def _check_entries(entries: list) -> None:
    """Raise InstallError for what is no plain file, or too large, before anything is read."""
    for entry in entries:
        mode = entry.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG) or mode & 0o7000:
            raise InstallError(f"the package must have plain files only, {entry.filename} is none")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InstallError(f"the package is compressed otherwise than ours: {entry.filename}")
    size = sum(entry.file_size for entry in entries)
    if len(entries) > _MOST_FILES or size > _MOST_BYTES:
        raise InstallError(
            f"the package must have at most {_MOST_FILES} files of {_MOST_BYTES >> 20} MiB, it has "
            f"{len(entries)} of {size >> 20} MiB"
        )
    names = [entry.filename[len(_FOLDER) :] for entry in entries]
    check_names(names)


def _text(files: dict, name: str) -> str:
    try:
        return files[name].decode()
    except UnicodeDecodeError as error:
        raise InstallError(f"the package is damaged: {name} is no text") from error


def parse_info(text: str) -> dict:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def read_info(directory: Path) -> dict:
    """version.info of a vendor directory; empty if there is none."""
    try:
        return parse_info((directory / "version.info").read_text("utf-8", "replace"))
    except (FileNotFoundError, NotADirectoryError):
        return {}


def parse_sums(text: str) -> dict:
    """{path: sha256} of a SHA256SUMS file.

    Raises:
        InstallError: it is not one.
    """
    pairs = [line.split("  ", 1) for line in text.splitlines()]
    if not all(len(pair) == 2 for pair in pairs):
        raise InstallError("SHA256SUMS is damaged")
    return {name: digest for digest, name in pairs}
