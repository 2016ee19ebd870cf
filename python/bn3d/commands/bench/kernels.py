"""The C functions of the CPU backend, called directly on prepared buffers.

No framework, no fresh output: what is left is the kernel and a ctypes call (some 2 us).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import numpy as np

from bn3d.backends import library
from bn3d.commands.bench.cases import Case
from bn3d.operators import OPERATORS

__all__ = ["kernel_calls", "prepare", "step_kernels"]

_PARAMETERS = ("gamma", "beta", "moving_mean", "moving_variance", "settings")

# C function -> its inputs and outputs, by the names of `_buffers`.
SIGNATURES: dict[str, tuple[str, ...]] = {
    **{op.type: tuple(tensor.name for tensor in op.inputs + op.outputs) for op in OPERATORS},
    "Bn3dForwardTraining": ("x", *_PARAMETERS, "y", "saved"),
    "Bn3dForwardInference": ("x", *_PARAMETERS, "y", "saved"),
    "Bn3dGradientTraining": ("dy", "x", "gamma", "saved", "dx", "dgamma", "dbeta", "statistics"),
}


# The kernels that one step of the layer runs.
STEP_KERNELS = {
    "training": ("Bn3dForwardTraining",),
    "inference": ("Bn3dForwardInference",),
    "forward_backward": ("Bn3dForwardTraining", "Bn3dGradientTraining"),
}


def kernel_calls(case: Case, threads: int) -> dict[str, Callable[[], object]]:
    """A call of each C function, by its name, on buffers that are in use already."""
    loaded = library.load()
    loaded.set_threads(threads)
    buffers = _buffers(case)

    def prepared(function: str) -> Callable[[], None]:
        arrays = [buffers[tensor] for tensor in SIGNATURES[function]]
        dtypes = [case.dtype if array.ndim == 5 else array.dtype.name for array in arrays]
        return prepare(loaded.handle[function], arrays, dtypes)

    return {function: prepared(function) for function in SIGNATURES}


def step_kernels(case: Case, step: str, threads: int) -> Callable[[], object]:
    """The kernels of one step of the layer, one after the other."""
    calls = kernel_calls(case, threads)

    def call() -> None:
        for name in STEP_KERNELS[step]:
            calls[name]()

    return call


def _buffers(case: Case) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    channels = case.shape[1]

    def volume() -> np.ndarray:
        values = rng.standard_normal(case.shape, dtype=np.float32)
        if case.dtype == "bfloat16":  # unknown to NumPy: the upper half of a float32
            return (values.view(np.uint32) >> 16).astype(np.uint16)
        return values.astype(case.dtype)

    volumes = {name: volume() for name in ("x", "dy", "y", "dx")}
    ones = ("multiplier", "gamma", "moving_variance", "a")
    vectors = {
        tensor: np.full(channels, tensor in ones, np.float32)
        for tensors in SIGNATURES.values()
        for tensor in tensors
        if tensor not in volumes
    }
    return {
        **vectors,
        **volumes,
        "settings": np.array([1e-5, 0.9]).view(np.int64),  # eps, momentum
        "saved": np.ones((4, channels)).view(np.int64),
        "statistics": np.zeros((4, channels)),
    }


def prepare(
    function: Callable[..., int], arrays: Sequence[np.ndarray], dtypes: Sequence[str]
) -> Callable[[], None]:
    """A call of a C function as MindSpore's aot interface has it; its arguments are made once.

    `dtypes` has the names that MindSpore has for them: NumPy has none for bfloat16.
    """
    count = len(arrays)
    params = (ctypes.c_void_p * count)(*(array.ctypes.data for array in arrays))
    ndims = (ctypes.c_int * count)(*(array.ndim for array in arrays))
    shapes = [(ctypes.c_int64 * max(array.ndim, 1))(*array.shape) for array in arrays]
    addresses = (ctypes.c_void_p * count)(*(ctypes.addressof(shape) for shape in shapes))
    names = (ctypes.c_char_p * count)(*(name.encode() for name in dtypes))

    def call(_kept: object = (arrays, shapes)) -> None:  # C holds only their addresses
        status = function(count, params, ndims, addresses, names, None, None)
        if status != 0:
            raise RuntimeError(f"{function.__name__} returned {status}")

    return call
