"""Elementwise functions: equal shapes, equal dtypes, and only the dtypes that a SoC computes."""

import numpy as np

from tbe.common.platform import supports
from tbe.errors import require
from tbe.graph import Tensor


def check_dtype(name, tensor):
    require(isinstance(tensor, Tensor), "E90001", f"{name} takes a tensor, got {tensor!r}")
    require(supports(name, tensor.dtype), "E90003", f"{name} has no {tensor.dtype} on this SoC")


def _elementwise(function, *sources):
    return Tensor(sources[0].shape, sources[0].dtype, "elementwise", "", sources, function)


def _binary(name, function):
    def call(lhs, rhs):
        check_dtype(name, lhs)
        require(isinstance(rhs, Tensor), "E90001", f"{name} takes two tensors, got {rhs!r}")
        require(lhs.shape == rhs.shape, "E90001", f"{name}: shapes {lhs.shape} and {rhs.shape}")
        require(lhs.dtype == rhs.dtype, "E90001", f"{name}: dtypes {lhs.dtype} and {rhs.dtype}")
        return _elementwise(function, lhs, rhs)

    return call


def _scalar(name, function):
    def call(raw_tensor, scalar):
        check_dtype(name, raw_tensor)
        number = isinstance(scalar, (int, float))
        require(number, "E90001", f"{name} takes a tensor and a number, got {scalar!r}")
        return _elementwise(lambda x: function(x, np.dtype(x.dtype).type(scalar)), raw_tensor)

    return call


def _unary(name, function):
    def call(raw_tensor):
        check_dtype(name, raw_tensor)
        return _elementwise(function, raw_tensor)

    return call


vadd, vadds = _binary("vadd", np.add), _scalar("vadds", np.add)
vsub = _binary("vsub", np.subtract)
vmul, vmuls = _binary("vmul", np.multiply), _scalar("vmuls", np.multiply)
vdiv = _binary("vdiv", np.divide)
vmax, vmaxs = _binary("vmax", np.maximum), _scalar("vmaxs", np.maximum)
vmin, vmins = _binary("vmin", np.minimum), _scalar("vmins", np.minimum)
vabs = _unary("vabs", np.abs)
vexp = _unary("vexp", np.exp)
vlog = _unary("vlog", np.log)
vsqrt = _unary("vsqrt", np.sqrt)
vrsqrt = _unary("vrsqrt", lambda x: 1 / np.sqrt(x))
vrec = _unary("vrec", np.reciprocal)
vrelu = _unary("vrelu", lambda x: np.maximum(x, 0))
