"""Small networks in the manner of public 3-D model code, for the tests of `bn3d.swap`.

Three whole architectures, then one tiny network for each habit that a swap has to survive.
`NETWORKS` maps a name to its recipe; `Recipe.build` gives the same weights every time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import nn, ops


def conv(inputs: int, outputs: int, kernel=3, stride=1) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, kernel, stride=stride, pad_mode="same", has_bias=False)


class BasicBlock(nn.Cell):
    """Residual block; the shortcut is a SequentialCell with a norm layer, or None."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, outputs, stride=stride), nn.BatchNorm3d(outputs)
        self.conv2, self.bn2 = conv(outputs, outputs), nn.BatchNorm3d(outputs)
        self.relu = nn.ReLU()
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.SequentialCell(
                conv(inputs, outputs, 1, stride), nn.BatchNorm3d(outputs)
            )

    def construct(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet3D(nn.Cell):
    """Stem, two stages of basic blocks, global average, classifier."""

    def __init__(self):
        super().__init__()
        self.stem = nn.SequentialCell([conv(1, 4), nn.BatchNorm3d(4), nn.ReLU()])
        self.layer1 = nn.SequentialCell([BasicBlock(4, 4), BasicBlock(4, 4)])
        self.layer2 = nn.SequentialCell([BasicBlock(4, 8, stride=2), BasicBlock(8, 8)])
        self.head = nn.Dense(8, 3)

    def construct(self, x):
        return self.head(self.layer2(self.layer1(self.stem(x))).mean((2, 3, 4)))


class UNet3D(nn.Cell):
    """One level down and up, with a skip connection."""

    def __init__(self):
        super().__init__()
        self.down = nn.SequentialCell(conv(1, 4), nn.BatchNorm3d(4), nn.ReLU())
        self.bottom = nn.SequentialCell(conv(4, 8, stride=2), nn.BatchNorm3d(8), nn.ReLU())
        self.up = nn.Conv3dTranspose(8, 4, 2, stride=2, pad_mode="valid")
        self.merge = nn.CellList([conv(8, 4), nn.BatchNorm3d(4), nn.ReLU(), conv(4, 3, 1)])

    def construct(self, x):
        skip = self.down(x)
        y = ops.concat((self.up(self.bottom(skip)), skip), 1)
        for layer in self.merge:
            y = layer(y)
        return y


class R2Plus1D(nn.Cell):
    """Convolutions factorised into space and time, a norm layer between the factors."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.SequentialCell()
        for inputs, outputs in ((1, 4), (4, 6)):
            self.blocks.append(conv(inputs, outputs, (1, 3, 3)))
            self.blocks.append(nn.BatchNorm3d(outputs, eps=9.999999747378752e-06))
            self.blocks.append(nn.ReLU())
            self.blocks.append(conv(outputs, outputs, (3, 1, 1)))
            self.blocks.append(nn.BatchNorm3d(outputs, eps=1e-3, momentum=0.99))
            self.blocks.append(nn.ReLU())
        self.head = nn.Dense(6, 3)

    def construct(self, x):
        return self.head(self.blocks(x).mean((2, 3, 4)))


class SequentialSecondList(nn.Cell):
    """SequentialCell runs its `cell_list`, a second list beside `_cells`."""

    def __init__(self):
        super().__init__()
        self.body = nn.SequentialCell(conv(1, 3), nn.BatchNorm3d(3), nn.ReLU())

    def construct(self, x):
        return self.body(x)


class PlainContainers(nn.Cell):
    """Layers in a plain list and a plain dict, which MindSpore does not register."""

    def __init__(self):
        super().__init__()
        self.first = [conv(1, 3), nn.BatchNorm3d(3)]
        self.branches = {"norm": nn.BatchNorm3d(3), "act": nn.ReLU()}
        for number, cell in enumerate((*self.first, self.branches["norm"])):
            cell.update_parameters_name(f"plain{number}.")

    def construct(self, x):
        for layer in self.first:
            x = layer(x)
        return self.branches["act"](self.branches["norm"](x))


class SharedCell(nn.Cell):
    """One norm layer under two names, called twice."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = conv(1, 3), conv(3, 3)
        self.bn = nn.BatchNorm3d(3)
        self.also_bn = self.bn

    def construct(self, x):
        return self.also_bn(self.conv2(self.bn(self.conv1(x))))


class NeverCalled(nn.Cell):
    """A block that is built and never called."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = conv(1, 3), nn.BatchNorm3d(3)
        self.unused = nn.SequentialCell(conv(3, 3), nn.BatchNorm3d(3))

    def construct(self, x):
        return self.bn(self.conv(x))


class ExtraAttributes(nn.Cell):
    """Marks set on the norm layer and read in `construct`."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = conv(1, 3), nn.BatchNorm3d(3)
        self.bn.transform_final_bn = True
        self.bn.scale = 0.5

    def construct(self, x):
        y = self.bn(self.conv(x))
        return y * self.bn.scale if self.bn.transform_final_bn else y


class TrainingInConstructor(nn.Cell):
    """`set_train()` on one layer at construction: it normalises by the batch before training."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn1, self.bn2 = conv(1, 3), nn.BatchNorm3d(3), nn.BatchNorm3d(3)
        self.bn1.set_train()

    def construct(self, x):
        return self.bn2(self.bn1(self.conv(x)))


class FrozenGamma(nn.Cell):
    """gamma without gradient, and a layer frozen by use_batch_statistics after construction."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn1, self.bn2 = conv(1, 3), nn.BatchNorm3d(3), nn.BatchNorm3d(3)
        self.bn1.bn2d.gamma.requires_grad = False
        self.bn2.bn2d.use_batch_statistics = False

    def construct(self, x):
        return self.bn2(self.bn1(self.conv(x)))


class ClassPassedAround(nn.Cell):
    """The class as an argument, called with positional arguments, keywords and a dict."""

    def __init__(self, norm_module=nn.BatchNorm3d, norm_kwargs=None):
        super().__init__()
        norm_kwargs = norm_kwargs or {"eps": 1e-3, "momentum": 0.8}
        self.conv = conv(1, 3)
        self.bn1 = norm_module(3, 1e-4, 0.7)
        self.bn2 = norm_module(num_features=3, **norm_kwargs)

    def construct(self, x):
        return self.bn2(self.bn1(self.conv(x)))


class LookAlike(nn.Cell):
    """A network's own batch norm: no nn.BatchNorm3d, but the same inside."""

    def __init__(self, num_features):
        super().__init__()
        self.bn2d = nn.BatchNorm2d(num_features)

    def construct(self, x):
        n, c, d, h, w = x.shape
        return self.bn2d(x.reshape(n, c, d * h, w)).reshape(n, c, d, h, w)


class WithLookAlike(nn.Cell):
    """Brings its own batch norm; `swap` takes it by `also=(LookAlike,)`."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = conv(1, 3), LookAlike(3)

    def construct(self, x):
        return self.bn(self.conv(x))


class NamedNorm(nn.BatchNorm3d):
    """A subclass that keeps the stock `construct` and adds a method."""

    def describe(self):
        return f"norm of {self.bn2d.num_features}"


class ShiftedNorm(nn.BatchNorm3d):
    """A subclass with its own `construct`: not ours to replace."""

    def construct(self, x):
        return super().construct(x) + 1


class WithSubclasses(nn.Cell):
    """A subclass that keeps the stock construct."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = conv(1, 3), NamedNorm(3)

    def construct(self, x):
        return self.bn(self.conv(x))


class WithOwnConstruct(nn.Cell):
    """A stock layer, and a subclass with its own construct that must be left alone."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.shifted = conv(1, 3), nn.BatchNorm3d(3), ShiftedNorm(3)

    def construct(self, x):
        return self.shifted(self.bn(self.conv(x)))


class InstanceNorm(nn.Cell):
    """Batch norm as instance norm: input reshaped to (1, N * C, D, H, W)."""

    def __init__(self, batch=2, channels=300):
        super().__init__()
        self.conv = conv(1, channels, 1)
        self.bn = nn.BatchNorm3d(batch * channels, use_batch_statistics=True)

    def construct(self, x):
        x = self.conv(x)
        n, c, d, h, w = x.shape
        return self.bn(x.reshape(1, n * c, d, h, w)).reshape(n, c, d, h, w)


class DirectConstruct(nn.Cell):
    """Calls `layer.construct(x)` past the cell's `__call__`."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = conv(1, 3), nn.BatchNorm3d(3)

    def construct(self, x):
        return self.bn.construct(self.conv(x))


@dataclass(frozen=True)
class Recipe:
    """A network, how many norm layers run, the classes that `swap` needs as `also`."""

    network: Callable[[], nn.Cell]
    norm_calls: int
    also: tuple[type, ...] = ()
    kept: int = 0
    shape: tuple[int, ...] = (2, 1, 4, 6, 4)

    def build(self) -> nn.Cell:
        """The same weights at each call, with norm parameters that differ from 1 and 0."""
        ms.set_seed(0)
        net = self.network()
        rng = np.random.default_rng(1)
        for layer in norms(net):
            bn, size = layer.bn2d, layer.bn2d.num_features
            for parameter, low, high in (
                (bn.gamma, 0.5, 1.5),
                (bn.beta, -1, 1),
                (bn.moving_mean, -0.5, 0.5),
                (bn.moving_variance, 0.5, 1.5),
            ):
                parameter.set_data(ms.Tensor(rng.uniform(low, high, size).astype(np.float32)))
        return net

    def input(self, seed: int = 0) -> ms.Tensor:
        rng = np.random.default_rng(seed)
        return ms.Tensor(rng.normal(0.3, 1, self.shape).astype(np.float32))


def norms(net: nn.Cell) -> Iterator[nn.Cell]:
    """Every cell that holds a `bn2d`, once, also out of plain lists and dicts."""
    seen, waiting = set(), [net]
    while waiting:
        cell = waiting.pop(0)
        if id(cell) in seen:
            continue
        seen.add(id(cell))
        if "bn2d" in cell._cells:
            yield cell
        for value in (cell._cells, *vars(cell).values()):
            if isinstance(value, (list, dict)):
                found = value.values() if isinstance(value, dict) else value
                waiting.extend(each for each in found if isinstance(each, nn.Cell))


ARCHITECTURES = {
    "resnet3d": Recipe(ResNet3D, norm_calls=10, shape=(2, 1, 4, 8, 8)),
    "unet3d": Recipe(UNet3D, norm_calls=3),
    "r2plus1d": Recipe(R2Plus1D, norm_calls=4),
}
HABITS = {
    "sequential second list": Recipe(SequentialSecondList, norm_calls=1),
    "plain list and dict": Recipe(PlainContainers, norm_calls=2),
    "shared cell": Recipe(SharedCell, norm_calls=2),
    "never called": Recipe(NeverCalled, norm_calls=1),
    "extra attributes": Recipe(ExtraAttributes, norm_calls=1),
    "set_train in constructor": Recipe(TrainingInConstructor, norm_calls=2),
    "frozen": Recipe(FrozenGamma, norm_calls=2),
    "class passed around": Recipe(ClassPassedAround, norm_calls=2),
    "look-alike": Recipe(WithLookAlike, norm_calls=1, also=(LookAlike,)),
    "subclass": Recipe(WithSubclasses, norm_calls=1),
    "own construct": Recipe(WithOwnConstruct, norm_calls=1, kept=1),
    "instance norm": Recipe(InstanceNorm, norm_calls=1),
    "direct construct": Recipe(DirectConstruct, norm_calls=1),
}
NETWORKS = ARCHITECTURES | HABITS
