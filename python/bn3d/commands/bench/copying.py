"""The limit: a copy of the tensor, read once and written once, by the fastest way there is."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise

import numpy as np

from bn3d.commands.bench.timing import Effort, take_turns

__all__ = ["fastest_copy"]


def fastest_copy(nbytes: int, threads: int) -> tuple[str, Callable[[], object]]:
    """The name and the call of the fastest copy of `nbytes` between two buffers in use.

    memcpy and numpy.copyto use one thread; here they also run on `threads` slices at
    once. torch.copy_ splits by itself, when PyTorch is installed.
    """
    source = np.ones(nbytes, np.uint8)
    target = np.ones(nbytes, np.uint8)  # touched: no page is fresh
    copies = {
        "memcpy": lambda: _memcpy(target, source),
        "numpy.copyto": lambda: np.copyto(target, source),
        **_split_copies(target, source, threads),
        **_torch_copies(target, source, threads),
    }
    timings = take_turns(copies, Effort(blocks=3, block_seconds=0.02, most_calls=50))
    name = min(timings, key=lambda name: timings[name].p50)
    return name, copies[name]


_libc_memcpy = ctypes.CDLL(None).memcpy
_libc_memcpy.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_libc_memcpy.restype = ctypes.c_void_p


def _memcpy(target: np.ndarray, source: np.ndarray) -> None:
    _libc_memcpy(target.ctypes.data, source.ctypes.data, source.nbytes)


def _split_copies(target: np.ndarray, source: np.ndarray, threads: int) -> dict[str, Callable]:
    if threads == 1:
        return {}
    edges = [len(source) * i // threads // 64 * 64 for i in range(threads)] + [len(source)]
    slices = [(target[start:stop], source[start:stop]) for start, stop in pairwise(edges)]
    pool = ThreadPoolExecutor(threads - 1)

    def in_slices(copy: Callable) -> Callable[[], object]:
        def call() -> None:
            others = [pool.submit(copy, *part) for part in slices[1:]]
            copy(*slices[0])
            wait(others)

        return call

    return {
        f"memcpy in {threads} slices": in_slices(_memcpy),
        f"numpy.copyto in {threads} slices": in_slices(np.copyto),
    }


def _torch_copies(target: np.ndarray, source: np.ndarray, threads: int) -> dict[str, Callable]:
    try:
        import torch  # noqa: PLC0415 - optional
    except ImportError:
        return {}
    torch.set_num_threads(threads)
    to, from_ = torch.from_numpy(target), torch.from_numpy(source)
    return {"torch.copy_": lambda: to.copy_(from_)}
