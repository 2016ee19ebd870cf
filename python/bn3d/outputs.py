"""Files that commands write: complete or not at all.

What is written has the permissions that `open` would give it, a symbolic link stays one and its
target gets the contents, and a failure leaves what was there before, and nothing beside it.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import BinaryIO, TextIO

from bn3d import tables

__all__ = ["check", "replacing", "say_written", "write_text"]


@contextmanager
def replacing(path: str | PathLike[str], suffix: str = "") -> Iterator[Path]:
    """A temporary file to write, which takes the place of `path` at the end of the block.

    Args:
        path: a file in a folder that exists, or what stands for one: a symbolic link, a pipe, a
            device.
        suffix: how the temporary name ends, for writers that look at it.

    Raises:
        OSError: `path` cannot be written; it is as it was.
    """
    try:
        with _replacing(_target(path), suffix) as temporary:
            yield temporary
    except OSError as error:
        if error.errno is None:
            raise
        # The file that was to be written, and not the temporary one, or none.
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def _replacing(path: Path, suffix: str) -> Iterator[Path]:
    with _folder_beside(path) as folder:
        temporary = folder / f"output{suffix}"
        temporary.touch(0o666)  # the kernel takes the umask and the folder's defaults into account
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        if _in_place(path):
            with temporary.open("rb") as source, _open_in_place(path) as there:
                shutil.copyfileobj(source, there)
            return
        if path.exists():
            old = path.stat()
            mode = stat.S_IMODE(old.st_mode)
            if hasattr(os, "chown"):
                with suppress(PermissionError):
                    os.chown(temporary, old.st_uid, old.st_gid)
        temporary.chmod(0o600)  # some writers leave a file that even its owner may not write
        with temporary.open("r+b") as written:  # Windows syncs no file that is open for reading
            os.fsync(written.fileno())
        temporary.chmod(mode)
        temporary.replace(path)


def write_text(path: str | PathLike[str], text: str) -> None:
    """Write a text in UTF-8.

    Raises:
        OSError: as `replacing`.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def say_written(path: str | PathLike[str], more: str = "") -> None:
    """Print "wrote PATH", on standard error where standard output is what was written."""
    tables.say(f"wrote {path}{more}", sys.stderr if _is(path, sys.stdout) else sys.stdout)


def check(path: str | PathLike[str]) -> None:
    """Find out before the work whether `replacing` can write a file. Nothing is left of it.

    Raises:
        OSError: it cannot: no such folder, a folder itself, no permission.
    """
    path = _target(path)
    with _folder_beside(path):
        if _in_place(path) and not os.access(path, os.W_OK):  # opening a pipe would wait
            raise _error(errno.EACCES, path)


def _target(path: str | PathLike[str]) -> Path:
    """The file that is meant, behind all links."""
    given = Path(path)
    if given.parent in map(Path, ("/dev", "/dev/fd", "/proc/self/fd")):
        return given  # /dev/stdout: a link to a file that is open, which must stay that file
    target = Path(os.path.realpath(given))
    if target.is_symlink():
        raise _error(errno.ELOOP, given)  # it leads back to itself
    if target.is_dir():
        raise _error(errno.EISDIR, given)
    return target


def _error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))


def _in_place(path: Path) -> bool:
    """Whether a file cannot be replaced: a pipe, a device, what a process has open."""
    return path.is_symlink() or (path.exists() and not path.is_file()) or _is(path, sys.stdout)


def _open_in_place(path: Path) -> BinaryIO:
    if not _is(path, sys.stdout):
        return path.open("ab")
    # Opened anew it would have a position of its own, and what is printed would overwrite it.
    sys.stdout.flush()
    return os.fdopen(os.dup(sys.stdout.fileno()), "wb")


def _is(path: str | PathLike[str], stream: TextIO) -> bool:
    """Whether a stream of this process leads to the file at `path`."""
    try:
        return os.path.samestat(Path(path).stat(), os.fstat(stream.fileno()))
    except (AttributeError, OSError, ValueError):  # no such file, or a stream without one
        return False


@contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    """A temporary folder on the file system of a file; anywhere for what is written in place."""
    beside = None if _in_place(path) else path.parent
    with tempfile.TemporaryDirectory(dir=beside, prefix=".bn3d-") as folder:
        yield Path(folder)
