"""Reads the built package, and checks it. Runs on Python 3.7."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from pathlib import Path

__all__ = ["InstallError", "Package", "parse_info", "parse_sums"]


class InstallError(RuntimeError):
    """The package was not installed or removed, and nothing has changed."""


class Package:
    """The vendor tree of a package.

    Attributes:
        files: contents by path in the vendor directory.
        info: version.info as a dictionary.
    """

    def __init__(self, files: dict):
        self.files = files
        try:
            self.info = parse_info(files["version.info"].decode())
            sums = files["SHA256SUMS"].decode()
        except KeyError as error:
            raise InstallError(f"the package has no {error}") from error
        listed = parse_sums(sums)
        if set(listed) | {"SHA256SUMS"} != set(files):
            raise InstallError("the package is incomplete: its files are not those of SHA256SUMS")
        for name, digest in listed.items():
            if hashlib.sha256(files[name]).hexdigest() != digest:
                raise InstallError(f"the package is damaged: {name} has changed")

    @classmethod
    def open(cls, path: Path) -> Package:
        """Read a .run file.

        Raises:
            InstallError: it is none, or is damaged.
        """
        try:
            with zipfile.ZipFile(str(path)) as archive:
                names = [name for name in archive.namelist() if name.startswith("package/")]
                return cls({name[len("package/") :]: archive.read(name) for name in names})
        except (
            OSError,
            EOFError,
            NotImplementedError,
            ValueError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise InstallError(f"{path} is not a readable package: {error}") from error

    @property
    def version(self) -> str:
        return self.info["bn3d_version"]

    @property
    def size(self) -> int:
        return sum(len(data) for data in self.files.values())


def parse_info(text: str) -> dict:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def parse_sums(text: str) -> dict:
    """{path: sha256} of a SHA256SUMS file."""
    return {name: digest for digest, name in (line.split("  ", 1) for line in text.splitlines())}
