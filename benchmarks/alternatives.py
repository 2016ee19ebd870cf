"""What a 3-D network is written of on a CPU, and what may be written instead of it.

An alternative gives the same values and gradients up to rounding, but for a gradient where x is
exactly 0 if its entry says so: tests/benchmarks holds it against what it replaces. Whether it is
faster is measured, by bench_fast_cpu.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from bn3d.commands.bench.mindspore_steps import ForwardBackward

__all__ = ["ENTRIES", "Entry", "forward_backward"]


class Formula(nn.Cell):
    """A function of x, and of weights if there are some, as a cell."""

    def __init__(self, function: Callable, *weights: np.ndarray):
        super().__init__()
        self.function = function
        self.weights = ms.ParameterTuple(
            Parameter(Tensor(weight, ms.float32), f"weight{number}")
            for number, weight in enumerate(weights)
        )

    def construct(self, x):
        return self.function(x, *self.weights)


@dataclass(frozen=True)
class Entry:
    """An operator, x of `shape` that it is measured with, and what to write instead.

    Attributes:
        kind: heading of the table it stands in.
        written, instead: as a reader would write them; `instead` is empty where nothing is known.
        build, build_instead: make the cells, with the same weights.
        small: the shape of the tests.
        at_zero: how the alternative's gradient differs where x is exactly 0.
    """

    kind: str
    written: str
    shape: tuple[int, ...]
    build: Callable[[], nn.Cell]
    instead: str = ""
    build_instead: Callable[[], nn.Cell] | None = None
    small: tuple[int, ...] = (2, 4, 4, 6, 8)
    at_zero: str = ""


VOLUME = (2, 64, 16, 56, 56)  # 26 MB
LOGITS = (2, 3, 32, 64, 64)


def _random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _convolution(inputs: int, outputs: int, kernel=3, **options) -> Callable[[], nn.Cell]:
    sizes = (kernel,) * 3 if isinstance(kernel, int) else kernel
    group = options.get("group", 1)

    def build() -> nn.Cell:
        weight = Tensor(0.1 * _random(outputs, inputs // group, *sizes))
        padding = tuple(size // 2 for size in sizes for _ in range(2))
        return nn.Conv3d(
            inputs,
            outputs,
            sizes,
            pad_mode="pad",
            padding=padding,
            weight_init=weight,
            has_bias=False,
            **options,
        )

    return build


class _WithoutWeights(nn.Cell):
    """(x, dy) -> y and the gradient of x: MindSpore 2.10 fails at an empty tuple of weights where
    y is a scalar.
    """

    def __init__(self, layer: nn.Cell):
        super().__init__()
        self.layer = layer
        self.set_train()

    def construct(self, x, dy):
        y, backward = ms.vjp(self.layer, x)
        return y, backward(dy)


def forward_backward(cell: nn.Cell) -> nn.Cell:
    """(x, dy) -> y and the gradients of x and of the weights, if there are some."""
    return ForwardBackward(cell) if cell.trainable_params() else _WithoutWeights(cell)


class GroupsAsOne(nn.Cell):
    """A 3x3x3 convolution in groups as one of all channels, with zeros between the groups."""

    def __init__(self, channels: int, group: int):
        super().__init__()
        size = channels // group
        self.group = group
        self.weight = Parameter(Tensor(0.1 * _random(channels, size, 3, 3, 3)), "weight")
        of = np.arange(channels) // size
        same = (of[:, None] == of).astype(np.float32)
        self.within = Tensor(same.reshape(channels, channels, 1, 1, 1))
        self.convolve = ops.Conv3D(channels, (3, 3, 3), pad_mode="pad", pad=(1,) * 6)

    def construct(self, x):
        weight = ops.tile(self.weight, (1, self.group, 1, 1, 1)) * self.within
        return self.convolve(x, weight)


def _pointwise_as_product(inputs: int, outputs: int) -> nn.Cell:
    weight = 0.1 * _random(outputs, inputs, 1, 1, 1).reshape(outputs, inputs)

    def product(x, weight):
        n, c, d, h, w = x.shape
        return ops.matmul(weight, x.reshape(n, c, d * h * w)).reshape(n, -1, d, h, w)

    return Formula(product, weight)


def _transposed(inputs: int, outputs: int) -> nn.Cell:
    return nn.Conv3dTranspose(
        inputs,
        outputs,
        2,
        stride=2,
        pad_mode="valid",
        weight_init=Tensor(0.1 * _random(inputs, outputs, 2, 2, 2)),
    )


def _transposed_as_product(inputs: int, outputs: int) -> nn.Cell:
    """Kernel and stride are 2: every voxel makes its own 2x2x2 block."""
    weight = 0.1 * _random(inputs, outputs, 2, 2, 2)

    def product(x, weight):
        n, c, d, h, w = x.shape
        blocks = ops.matmul(weight, x.reshape(n, c, d * h * w))
        blocks = blocks.reshape(n, outputs, 2, 2, 2, d, h, w).transpose(0, 1, 5, 2, 6, 3, 7, 4)
        return blocks.reshape(n, outputs, 2 * d, 2 * h, 2 * w)

    return Formula(product, weight.reshape(inputs, outputs * 8).T.copy())


def _prelu() -> nn.Cell:
    return nn.PReLU(1, 0.25)


# MindSpore compiles functions from their source, which it does not find for a lambda in a list.
def _leaky_of_one_relu(x):
    return 0.99 * ops.relu(x) + 0.01 * x


def _leaky_of_absolutes(x):
    return 0.505 * x + 0.495 * ops.abs(x)


def _prelu_of_one_relu(x, weight):
    return weight * x + (1 - weight) * ops.relu(x)


def _elu_of_two_relus(x):
    return ops.relu(x) + ops.expm1(-ops.relu(-x))


def _silu_by_sigmoid(x):
    return x * ops.sigmoid(x)


def _interpolated(x):
    _, _, d, h, w = x.shape
    return ops.interpolate(x, size=(2 * d, 2 * h, 2 * w), mode="nearest")


def _trilinear(x):
    _, _, d, h, w = x.shape
    return ops.interpolate(x, size=(2 * d, 2 * h, 2 * w), mode="trilinear")


def _nearest(x):
    n, c, d, h, w = x.shape
    x = x.reshape(n, c, d, 1, h, 1, w, 1).broadcast_to((n, c, d, 2, h, 2, w, 2))
    return x.reshape(n, c, 2 * d, 2 * h, 2 * w)


def _average_pool(x):
    n, c, d, h, w = x.shape
    return x.reshape(n, c, d // 2, 2, h // 2, 2, w // 2, 2).mean((3, 5, 7))


def _mean(x):
    return x.mean((2, 3, 4), keep_dims=True)


def _softmax(x):
    return ops.softmax(x, axis=1)


def _softmax_by_sums(x):
    # Softmax does not change with the largest value: its gradient is 0.
    powers = ops.exp(x - ops.stop_gradient(x.max(1, keepdims=True)))
    return powers / powers.sum(1, keepdims=True)


def _labels(x) -> Tensor:
    """Of the loss: what class a voxel is, from its place."""
    n, c, d, h, w = x.shape
    return (ops.arange(n * d * h * w) % c).reshape(n, d, h, w).astype(ms.int32)


def _cross_entropy(x):
    return ops.cross_entropy(x, _labels(x))


def _cross_entropy_by_sums(x):
    classes = ops.arange(x.shape[1]).reshape(1, -1, 1, 1, 1)
    chosen = (_labels(x).expand_dims(1) == classes).astype(x.dtype)
    x = x - ops.stop_gradient(x.max(1, keepdims=True))
    return (ops.log(ops.exp(x).sum(1)) - (x * chosen).sum(1)).mean()


def _targets(x) -> Tensor:
    return (_labels(x).expand_dims(1) == 1).astype(x.dtype).broadcast_to(x.shape)


def _binary(x):
    return ops.binary_cross_entropy_with_logits(x, _targets(x), ops.ones_like(x), ops.ones_like(x))


def _binary_by_softplus(x):
    return (ops.softplus(x) - x * _targets(x)).mean()


def _dice(x):
    p, t = ops.sigmoid(x), _targets(x)
    return 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)


def _entry(kind: str, written: str, shape: tuple, build: Callable, *instead, **options) -> Entry:
    """`build` and its alternative may be functions of x."""

    def cell(function: Callable) -> Callable[[], nn.Cell]:
        return lambda: Formula(function)

    text, function = instead or ("", None)
    other = cell(function) if function else None
    return Entry(kind, written, shape, cell(build), text, other, **options)


CONVOLUTIONS = [
    Entry("Convolutions", "nn.Conv3d(1, 16, 3)", (1, 1, 32, 32, 32), _convolution(1, 16)),
    Entry("Convolutions", "nn.Conv3d(16, 16, 3)", (1, 16, 32, 20, 20), _convolution(16, 16)),
    Entry("Convolutions", "nn.Conv3d(16, 16, 3)", (4, 16, 32, 20, 20), _convolution(16, 16)),
    Entry("Convolutions", "nn.Conv3d(16, 16, 3)", (4, 16, 32, 32, 32), _convolution(16, 16)),
    Entry("Convolutions", "nn.Conv3d(32, 64, 3)", (2, 32, 16, 16, 16), _convolution(32, 64)),
    Entry(
        "Convolutions",
        "nn.Conv3d(32, 64, 3, stride=2)",
        (2, 32, 16, 16, 16),
        _convolution(32, 64, stride=2),
    ),
    Entry(
        "Convolutions",
        "nn.Conv3d(32, 32, (1, 3, 3))",
        (2, 32, 16, 16, 16),
        _convolution(32, 32, (1, 3, 3)),
    ),
    Entry(
        "Convolutions",
        "nn.Conv3d(32, 32, (3, 1, 1))",
        (2, 32, 16, 16, 16),
        _convolution(32, 32, (3, 1, 1)),
    ),
    Entry(
        "Convolutions",
        "nn.Conv3d(32, 32, 3, group=4)",
        (2, 32, 16, 16, 16),
        _convolution(32, 32, group=4),
        "one group: ops.tile(weight, (1, 4, 1, 1, 1)) * within_a_group",
        lambda: GroupsAsOne(32, 4),
        small=(2, 32, 3, 4, 5),
    ),
    Entry(
        "Convolutions",
        "nn.Conv3d(32, 32, 3, group=32)",
        (2, 32, 16, 16, 16),
        _convolution(32, 32, group=32),
        "one group: ops.tile(weight, (1, 32, 1, 1, 1)) * within_a_group",
        lambda: GroupsAsOne(32, 32),
        small=(2, 32, 3, 4, 5),
    ),
    Entry(
        "Convolutions",
        "nn.Conv3d(32, 64, 1)",
        (2, 32, 16, 32, 32),
        _convolution(32, 64, 1),
        "ops.matmul(weight, x.reshape(n, c, -1))",
        lambda: _pointwise_as_product(32, 64),
        small=(2, 32, 2, 3, 4),
    ),
    Entry(
        "Upsampling",
        "nn.Conv3dTranspose(32, 16, 2, stride=2)",
        (2, 32, 16, 16, 16),
        lambda: _transposed(32, 16),
        "ops.matmul(weight, x.reshape(n, c, -1)), then each column to a block",
        lambda: _transposed_as_product(32, 16),
        small=(2, 32, 2, 3, 4),
    ),
]

ENTRIES: list[Entry] = [
    *CONVOLUTIONS,
    _entry(
        "Upsampling",
        "ops.interpolate(x, scale_factor=2.0, mode='nearest')",
        (2, 16, 16, 16, 16),
        _interpolated,
        "x.reshape(n, c, d, 1, h, 1, w, 1), broadcast_to, reshape",
        _nearest,
    ),
    _entry(
        "Upsampling",
        "ops.interpolate(x, scale_factor=2.0, mode='trilinear')",
        (2, 16, 16, 16, 16),
        _trilinear,
    ),
    _entry("Activations", "ops.relu(x)", VOLUME, ops.relu),
    Entry(
        "Activations",
        "nn.LeakyReLU(0.01)",
        VOLUME,
        lambda: nn.LeakyReLU(0.01),
        "0.505 * x + 0.495 * ops.abs(x)",
        lambda: Formula(_leaky_of_absolutes),
    ),
    Entry(
        "Activations",
        "nn.LeakyReLU(0.01)",
        VOLUME,
        lambda: nn.LeakyReLU(0.01),
        "0.99 * ops.relu(x) + 0.01 * x",
        lambda: Formula(_leaky_of_one_relu),
        at_zero="0.01, as in PyTorch, instead of 0.505",
    ),
    Entry(
        "Activations",
        "nn.PReLU(1)",
        VOLUME,
        _prelu,
        "weight * x + (1 - weight) * ops.relu(x)",
        lambda: Formula(_prelu_of_one_relu, np.full(1, 0.25, np.float32)),
    ),
    Entry(
        "Activations",
        "nn.ELU()",
        VOLUME,
        nn.ELU,
        "ops.relu(x) + ops.expm1(-ops.relu(-x))",
        lambda: Formula(_elu_of_two_relus),
        at_zero="0 instead of 1",
    ),
    _entry(
        "Activations",
        "ops.silu(x)",
        VOLUME,
        ops.silu,
        "x * ops.sigmoid(x)",
        _silu_by_sigmoid,
    ),
    _entry("Activations", "ops.gelu(x)", VOLUME, ops.gelu),
    Entry(
        "Pooling",
        "nn.MaxPool3d(2, stride=2)",
        VOLUME,
        lambda: nn.MaxPool3d(kernel_size=2, stride=2),
    ),
    Entry(
        "Pooling",
        "nn.AvgPool3d(2, stride=2)",
        VOLUME,
        lambda: nn.AvgPool3d(kernel_size=2, stride=2),
        "x.reshape(n, c, d // 2, 2, h // 2, 2, w // 2, 2).mean((3, 5, 7))",
        lambda: Formula(_average_pool),
    ),
    Entry(
        "Pooling",
        "nn.AdaptiveAvgPool3d(1)",
        VOLUME,
        lambda: nn.AdaptiveAvgPool3d(1),
        "x.mean((2, 3, 4), keep_dims=True)",
        lambda: Formula(_mean),
    ),
    _entry(
        "Softmax and losses",
        "ops.softmax(x, axis=1)",
        LOGITS,
        _softmax,
        "p = exp(x - stop_gradient(x.max(1))); p / p.sum(1)",
        _softmax_by_sums,
    ),
    _entry(
        "Softmax and losses",
        "ops.cross_entropy(x, labels)",
        LOGITS,
        _cross_entropy,
        "(log(exp(x).sum(1)) - (x * one_hot).sum(1)).mean()",
        _cross_entropy_by_sums,
    ),
    _entry(
        "Softmax and losses",
        "ops.binary_cross_entropy_with_logits(x, t, ...)",
        LOGITS,
        _binary,
        "(ops.softplus(x) - x * t).mean()",
        _binary_by_softplus,
    ),
    _entry("Softmax and losses", "a Dice loss of ops.sigmoid(x)", LOGITS, _dice),
]
