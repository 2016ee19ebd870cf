"""The native CPU library: where it is, whether it fits, and its threads."""

from __future__ import annotations

import ctypes
import functools
import platform
import struct
from dataclasses import dataclass
from pathlib import Path

import bn3d

__all__ = ["LIBRARY_NAME", "Library", "LibraryError", "load", "loaded"]

LIBRARY_NAME = "libbn3d_cpu.so"


class LibraryError(RuntimeError):
    """The native library is missing or does not fit; the text says why and what to do."""


@dataclass(frozen=True)
class Library:
    """The loaded library.

    Attributes:
        path: its file, for `mindspore.ops.Custom`, which loads the same instance.
        instruction_set: "baseline", "avx2" or "avx512", chosen when it was loaded.
    """

    path: Path
    instruction_set: str
    handle: ctypes.CDLL

    def set_threads(self, threads: int) -> None:
        """Let a call use that many threads; never more than the process may run on."""
        self.handle.bn3d_set_threads(threads)

    @property
    def threads(self) -> int:
        """Threads that the next call uses."""
        return int(self.handle.bn3d_usable_threads())


@functools.cache
def load() -> Library:
    """Load the library that was installed with this package.

    Raises:
        LibraryError: not on Linux, not built, built for another processor or version.
    """
    if platform.system() != "Linux":
        raise LibraryError(
            f"the native CPU operator runs on Linux only, because mindspore.ops.Custom does; "
            f"this is {platform.system()}"
        )
    path = _find()
    _check_whole(path)
    try:
        handle = ctypes.CDLL(str(path))
        handle.bn3d_version.restype = ctypes.c_char_p
        handle.bn3d_instruction_set.restype = ctypes.c_char_p
        version = handle.bn3d_version().decode()
    except (OSError, AttributeError) as error:
        raise LibraryError(
            f"{path} cannot be loaded ({error}); reinstall bn3d on this machine"
        ) from error
    if version != bn3d.__version__:
        raise LibraryError(
            f"{path} is of bn3d {version}, this package is {bn3d.__version__}; reinstall bn3d"
        )
    return Library(path, handle.bn3d_instruction_set().decode(), handle)


def loaded() -> Library | None:
    """The library if `load` has loaded it in this process."""
    return load() if load.cache_info().currsize else None


def _find() -> Path:
    # An editable install has two folders: the sources and the one with what was built.
    for folder in bn3d.__path__:
        path = Path(folder) / LIBRARY_NAME
        if path.is_file():
            return path.resolve()
    raise LibraryError(
        f"{LIBRARY_NAME} is not installed: bn3d was built with BN3D_NATIVE=OFF, or these are its "
        "sources; install g++ or clang++ and reinstall bn3d"
    )


def _check_whole(path: Path) -> None:
    """Refuse a file that ends early: mapping it would kill the process with a bus error."""
    data = path.read_bytes()
    try:
        # The ELF64 header's e_phoff and e_phnum; p_offset and p_filesz of each program header.
        (at,), (count,) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<H", data, 56)
        headers = [struct.unpack_from("<8xQ16xQ", data, at + 56 * i) for i in range(count)]
        whole = data[:5] == b"\x7fELF\x02" and all(sum(header) <= len(data) for header in headers)
    except struct.error:
        whole = False
    if not whole:
        raise LibraryError(
            f"{path} cannot be loaded (it is no ELF file, or only a part of one); "
            "reinstall bn3d on this machine"
        )
