"""Floating-point arithmetic as IEEE 754 has it, whatever the calling thread is set to.

The threads on which MindSpore runs graphs count subnormal numbers as 0, and so does NumPy when it
is called on them. `torch.set_flush_denormal(True)` and libraries linked with -ffast-math set the
same for the user's own thread.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["standard_floats"]

_DEFAULT = ctypes.c_void_p(-1)  # FE_DFL_ENV of the C libraries of Linux
_SIZE = 256  # more than a fenv_t of any processor


def _load() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("libm.so.6") if platform.system() == "Linux" else None
    except OSError:  # another C library than glibc, on which MindSpore does not run
        return None


_libm = _load()


@contextmanager
def standard_floats() -> Iterator[None]:
    """In the block, or the decorated function, this thread rounds to nearest, counts subnormal
    numbers and traps nothing; then it is as before. On other systems than Linux nothing changes.
    """
    if _libm is None:
        yield
        return
    before = ctypes.create_string_buffer(_SIZE)
    _libm.fegetenv(before)
    _libm.fesetenv(_DEFAULT)
    try:
        yield
    finally:
        _libm.fesetenv(before)
