"""The Ascend backend with the native CPU operators in place of those of the package.

Everything else is the module as it is: its casts, its arithmetic, what it compiles when.
"""

from __future__ import annotations

import importlib.util
import sys

import mindspore as ms
import pytest
from mindspore import nn, ops

from bn3d import BatchNorm3d, backends
from bn3d.backends import Backend, native
from bn3d.operators import OPERATORS

_OPERATORS = {operator.type: operator for operator in OPERATORS}


def ascend_on_cpu(monkeypatch: pytest.MonkeyPatch) -> Backend:
    """The Ascend backend, imported over the CPU's operators, until the patch ends."""

    def custom(func, **arguments):
        assert arguments["reg_info"]["op_name"]
        return native._operator(_OPERATORS[func])

    name = "bn3d.backends.ascend"
    spec = importlib.util.find_spec(name)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # where MindSpore's parser looks names up
    with monkeypatch.context() as importing:
        importing.setattr(ops, "Custom", custom)
        spec.loader.exec_module(module)
    return module.BACKEND


def use(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let layers that are built from now on compute with a backend."""
    choice = backends.Choice(backend)
    monkeypatch.setattr(backends, "choose", lambda device_target=None: choice)


class Gradient(nn.Cell):
    """(x, dy) -> y and the gradients of x and of the weights.

    Not with `mindspore.vjp`: that of MindSpore 2.7.0 runs the layer twice in PyNative mode.
    """

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.gradient = ms.value_and_grad(self.loss, 0, layer.trainable_params(), has_aux=True)

    def loss(self, x, dy):
        y = self.layer(x)
        return ops.reduce_sum(ops.cast(y, ms.float32) * ops.cast(dy, ms.float32)), y

    def __call__(self, x, dy):
        (_, y), (dx, weights) = self.gradient(x, dy)
        return y, ((dx,), weights)


def layer_like(other: nn.Cell, **arguments) -> BatchNorm3d:
    """A layer with the parameters of another."""
    layer = BatchNorm3d(other.bn2d.num_features, **arguments)
    for mine, theirs in zip(layer.get_parameters(), other.get_parameters(), strict=True):
        mine.set_data(theirs.value().copy())
    return layer
