"""The C interface of the native library, called as MindSpore calls it."""

from __future__ import annotations

import contextlib
import ctypes
import os

import numpy as np

from bn3d.backends import library
from bn3d.commands.bench.kernels import prepare

EPS, MOMENTUM = 1e-5, 0.9


class BFloat16:
    """bfloat16 as NumPy lacks it: uint16 arrays and their conversions."""

    name = "bfloat16"

    @staticmethod
    def encode(array):
        bits = np.asarray(array, np.float32).view(np.uint32).astype(np.uint64)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)

    @staticmethod
    def decode(array):
        return (array.astype(np.uint32) << 16).view(np.float32)


class NumpyType:
    """A dtype that NumPy has, with the same interface."""

    def __init__(self, name):
        self.name = name

    def encode(self, array):
        return np.asarray(array).astype(self.name)

    def decode(self, array):
        return array


FLOAT32, FLOAT16, FLOAT64 = NumpyType("float32"), NumpyType("float16"), NumpyType("float64")
BFLOAT16 = BFloat16()
DTYPES = {t.name: t for t in (FLOAT32, FLOAT16, BFLOAT16, FLOAT64)}

# Unit in the last place at 1.
ULP = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7, "float64": 2.0**-52}


# The control register in the words of C's fenv_t, and its bits that count subnormal numbers as 0:
# MXCSR's flush to zero and denormals are zero, FPCR's flush to zero.
CONTROL, FLUSH = {"x86_64": (7, 0x8040), "aarch64": (0, 1 << 24)}[os.uname().machine]


@contextlib.contextmanager
def environment(flushing):
    """In the block this thread counts subnormal numbers as 0, as MindSpore's graph threads do,
    or not. The block has to leave that as it is.
    """
    libm = ctypes.CDLL("libm.so.6")
    before, inside, after = ((ctypes.c_uint32 * 8)() for _ in range(3))
    libm.fegetenv(before)
    ctypes.memmove(inside, before, ctypes.sizeof(before))
    inside[CONTROL] = before[CONTROL] & ~FLUSH | (FLUSH if flushing else 0)
    libm.fesetenv(inside)
    try:
        yield
    finally:
        libm.fegetenv(after)
        libm.fesetenv(before)
    assert after[CONTROL] == inside[CONTROL]


def call(name, *arrays, flushing=False):
    """Call an operator; an array may be (array, dtype name) where NumPy's name is not meant."""
    pairs = [a if isinstance(a, tuple) else (a, str(a.dtype)) for a in arrays]
    prepared = prepare(getattr(library.load().handle, name), *zip(*pairs, strict=True))
    with environment(flushing):
        prepared()


def settings(eps=EPS, momentum=MOMENTUM):
    return np.array([eps, momentum]).view(np.int64)


class Layer:
    """One layer's arrays and the four fused operators on them, which a thread calls that counts
    subnormal numbers as 0 where it is `flushing`.
    """

    def __init__(self, x, dtype=FLOAT32, eps=EPS, momentum=MOMENTUM, seed=7, flushing=False):
        rng = np.random.default_rng(seed)
        channels = x.shape[1]
        self.dtype = dtype
        self.flushing = flushing
        self.x = np.ascontiguousarray(dtype.encode(x))
        self.dy = dtype.encode(rng.standard_normal(x.shape, np.float32))
        self.gamma = rng.uniform(0.5, 1, channels).astype(np.float32)
        self.beta = rng.uniform(-0.5, 0.5, channels).astype(np.float32)
        self.moving_mean = rng.standard_normal(channels).astype(np.float32)
        self.moving_variance = rng.uniform(0.5, 2, channels).astype(np.float32)
        self.settings = settings(eps, momentum)
        self.saved = np.full((4, channels), np.nan)  # handed over as its bits, like settings

    def _volume(self, array):
        return array, self.dtype.name

    def _call(self, *arguments):
        call(*arguments, flushing=self.flushing)

    def _parameters(self):
        return self.gamma, self.beta, self.moving_mean, self.moving_variance, self.settings

    def forward_training(self):
        y = np.zeros_like(self.x)
        self._call("Bn3dForwardTraining", self._volume(self.x), *self._parameters(),
                   self._volume(y), self.saved.view(np.int64))  # fmt: skip
        return self.dtype.decode(y)

    def gradient_training(self):
        return self._gradient("Bn3dGradientTraining")

    def forward_inference(self):
        y = np.zeros_like(self.x)
        self._call("Bn3dForwardInference", self._volume(self.x), *self._parameters(),
                   self._volume(y), self.saved.view(np.int64))  # fmt: skip
        return self.dtype.decode(y)

    def gradient_inference(self):
        return self._gradient("Bn3dGradientInference")

    def _gradient(self, name):
        dx, dgamma, dbeta = (np.zeros_like(a) for a in (self.x, self.gamma, self.beta))
        changed, statistics = np.full_like(self.gamma, np.nan), np.zeros_like(self.saved)
        self._call(name, self._volume(self.dy), self._volume(self.x), changed,
                   self.saved.view(np.int64), self._volume(dx), dgamma, dbeta,
                   statistics)  # fmt: skip
        np.testing.assert_array_equal(statistics, self.saved)
        return self.dtype.decode(dx), dgamma, dbeta
