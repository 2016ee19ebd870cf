"""A layer with bn3d's inputs, outputs and gradients whose kernels only copy, for `soak.py`: what
MindSpore's own bookkeeping of `ops.Custom` costs. Needs g++.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.ops import CustomRegOp, DataType

KERNELS = r"""
#include <cstdint>
#include <cstring>
using Shape = int64_t*;
static int64_t size(int rank, const int64_t* shape) {
  int64_t product = 1;
  for (int i = 0; i < rank; ++i) product *= shape[i];
  return product;
}
extern "C" int Forward(int, void** p, int* ranks, Shape* shapes, const char**, void*, void*) {
  std::memcpy(p[6], p[0], size(ranks[0], shapes[0]) * sizeof(float));
  std::memset(p[7], 0, 3 * shapes[1][0] * sizeof(double));
  return 0;
}
extern "C" int Backward(int, void** p, int* ranks, Shape* shapes, const char**, void*, void*) {
  std::memcpy(p[4], p[0], size(ranks[0], shapes[0]) * sizeof(float));
  for (int i = 5; i < 7; ++i) std::memset(p[i], 0, shapes[2][0] * sizeof(float));
  return 0;
}
"""


def _custom(library: Path, name: str, inputs: str, outputs: str, shapes, dtypes, bprop=None):
    registration = CustomRegOp(name)
    for index, tensor in enumerate(inputs.split()):
        registration.input(index, tensor)
    for index, tensor in enumerate(outputs.split()):
        registration.output(index, tensor)
    formats = [DataType.None_None] * len(f"{inputs} {outputs}".split())
    info = registration.dtype_format(*formats).target("CPU").get_op_info()
    return ops.Custom(f"{library}:{name}", shapes, dtypes, "aot", bprop, info)


class BareCustom(nn.Cell):
    """x (N, C, D, H, W) in float32 -> x."""

    def __init__(self, channels: int):
        super().__init__()
        library = Path(tempfile.mkdtemp()) / "libbare.so"
        command = ["g++", "-O2", "-shared", "-fPIC", "-x", "c++", "-", "-o", str(library)]
        subprocess.run(command, input=KERNELS, text=True, check=True)
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            values = Tensor(np.ones(channels, np.float32))
            setattr(self, name, Parameter(values, name, requires_grad=name in ("gamma", "beta")))
        self.settings = Tensor(np.zeros(2, np.int64))
        no_vector, no_settings = Tensor(np.zeros(channels, np.float32)), self.settings
        backward = _custom(
            library,
            "Backward",
            "dy x gamma saved",
            "dx dgamma dbeta",
            lambda dy, x, gamma, saved: (x, gamma, gamma),
            lambda dy, x, gamma, saved: (x, gamma, gamma),
        )

        def bprop(x, gamma, beta, moving_mean, moving_variance, settings, out, dout):
            dx, dgamma, dbeta = backward(dout[0], x, gamma, out[1])
            return dx, dgamma, dbeta, no_vector, no_vector, no_settings

        self.forward = _custom(
            library,
            "Forward",
            "x gamma beta moving_mean moving_variance settings",
            "y saved",
            lambda x, gamma, *_: (x, (3, channels)),
            lambda x, gamma, *_: (x, ms.float64),
            bprop,
        )

    def construct(self, x):
        vectors = (self.gamma, self.beta, self.moving_mean, self.moving_variance)
        return self.forward(x, *vectors, self.settings)[0]
