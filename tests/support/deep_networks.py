"""Networks of real depth and usual structure, in the manners in which people write them.

By name: how to build one, the shape of its input, and how many of its batch norms can be folded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

from mindspore import nn, ops

__all__ = ["DEEP", "Deep"]


class Deep(NamedTuple):
    """A network, the shape of its input, its batch norms and those that can be folded."""

    build: Callable[[], nn.Cell]
    shape: tuple[int, ...]
    norms: int
    folded: int


def conv(channels_in, channels_out, kernel=3, stride=1, **arguments):
    return nn.Conv3d(channels_in, channels_out, kernel, stride, pad_mode="same", **arguments)


# A ResNet with bottlenecks; its shortcuts are lists, its activation is one for all.


class Bottleneck(nn.Cell):
    expansion = 4

    def __init__(self, channels_in, channels, stride, relu):
        super().__init__()
        channels_out = channels * self.expansion
        widths = [(channels_in, channels, 1, 1), (channels, channels, 3, stride)]
        widths.append((channels, channels_out, 1, 1))
        for index, arguments in enumerate(widths, 1):
            setattr(self, f"conv{index}", conv(*arguments))
            setattr(self, f"bn{index}", nn.BatchNorm3d(arguments[1]))
        self.relu = relu
        self.shortcut = nn.CellList()
        if stride != 1 or channels_in != channels_out:
            self.shortcut.extend(
                [conv(channels_in, channels_out, 1, stride), nn.BatchNorm3d(channels_out)]
            )

    def construct(self, x):
        y = x
        for layer in self.shortcut:
            y = layer(y)
        for index in range(1, 4):
            x = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(x))
            if index < 3:
                x = self.relu(x)
        return self.relu(x + y)


class ResNet(nn.Cell):
    def __init__(self, blocks=(2, 3, 2), width=4):
        super().__init__()
        relu = nn.ReLU()
        self.stem = nn.SequentialCell(conv(1, width, 5, 2), nn.BatchNorm3d(width), relu)
        self.stages, channels = nn.CellList(), width
        for stage, number in enumerate(blocks):
            layers = []
            for block in range(number):
                stride = 2 if stage and not block else 1
                layers.append(Bottleneck(channels, width * 2**stage, stride, relu))
                channels = width * 2**stage * Bottleneck.expansion
            self.stages.append(nn.SequentialCell(layers))
        self.head = nn.Dense(channels, 5)

    def construct(self, x):
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(x.mean((2, 3, 4)))


# A U-Net with a head at each level, which gives a dictionary.


def two_convolutions(channels_in, channels_out):
    layers = []
    for channels in (channels_in, channels_out):
        layers += [conv(channels, channels_out, has_bias=True), nn.BatchNorm3d(channels_out)]
        layers += [nn.LeakyReLU(0.1)]
    return nn.SequentialCell(layers)


class UNet(nn.Cell):
    def __init__(self, width=4, depth=3):
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.CellList(
            [two_convolutions(a, b) for a, b in zip([1, *widths], widths, strict=False)]
        )
        self.pool = nn.MaxPool3d(kernel_size=2, stride=2)
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.CellList(
            [
                nn.SequentialCell(
                    nn.Conv3dTranspose(a, b, 2, 2, pad_mode="valid"), nn.BatchNorm3d(b), nn.ReLU()
                )
                for a, b in pairs
            ]
        )
        self.merge = nn.CellList([two_convolutions(2 * b, b) for _, b in pairs])
        self.heads = nn.CellList([conv(b, 2, 1) for _, b in pairs])

    def construct(self, x):
        skips = []
        for level in self.down:
            x = level(self.pool(x) if skips else x)
            skips.append(x)
        x, found = skips.pop(), {}
        for index, (up, merge, head) in enumerate(
            zip(self.up, self.merge, self.heads, strict=True)
        ):
            x = merge(ops.cat((skips.pop(), up(x)), 1))
            found[f"level{index}"] = head(x)
        return found


# An inception network whose units are closures under a decorator, in plain dictionaries.


def named(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def unit(channels_in, channels_out, kernel=1):
    convolution, norm = conv(channels_in, channels_out, kernel), nn.BatchNorm3d(channels_out)

    @named
    def run(x):
        return ops.relu(norm(convolution(x)))

    return run, {"conv3d": convolution, "bn": norm}


class Inception(nn.Cell):
    def __init__(self, channels_in, width):
        super().__init__()
        paths = {
            "b0": [(channels_in, width, 1)],
            "b1": [(channels_in, width, 1), (width, 2 * width, 3)],
            "b2": [(channels_in, width, 1), (width, width, 3)],
        }
        self.branches = {
            name: [unit(*arguments) for arguments in path] for name, path in paths.items()
        }
        self.out = 4 * width

    def construct(self, x):
        found = []
        for branch in self.branches.values():
            y = x
            for run, _ in branch:
                y = run(y)
            found.append(y)
        return ops.cat(found, 1)


class I3D(nn.Cell):
    def __init__(self, width=4, modules=5):
        super().__init__()
        self.first, self.held = unit(3, width, 5)
        self.mixed, channels = nn.CellList(), width
        for _ in range(modules):
            self.mixed.append(Inception(channels, width))
            channels = self.mixed[-1].out
        self.logits = conv(channels, 3, 1, has_bias=True)
        for number, cell in enumerate(self.norms_and_convolutions()):
            cell.update_parameters_name(f"unit{number}.")

    def norms_and_convolutions(self):
        units = [self.held]
        for module in self.mixed:
            units += [held for branch in module.branches.values() for _, held in branch]
        return [cell for held in units for cell in held.values()]

    def construct(self, x):
        x = self.first(x)
        for module in self.mixed:
            x = module(x)
        return self.logits(x).mean((2, 3, 4))


# R(2+1)D, with the factors in a subclass of SequentialCell and a network built from a table.


class Factors(nn.SequentialCell):
    def __init__(self, channels_in, channels_out, stride=1):
        middle = channels_in * channels_out * 27 // (channels_in * 9 + 3 * channels_out)
        super().__init__(
            conv(channels_in, middle, (1, 3, 3), (1, stride, stride)),
            nn.BatchNorm3d(middle),
            nn.ReLU(),
            conv(middle, channels_out, (3, 1, 1), (stride, 1, 1)),
        )


class R2Plus1D(nn.Cell):
    class Block(nn.Cell):
        def __init__(self, channels_in, channels_out, stride):
            super().__init__()
            self.body = nn.SequentialCell(
                nn.SequentialCell(
                    Factors(channels_in, channels_out, stride), nn.BatchNorm3d(channels_out)
                ),
                nn.ReLU(),
                nn.SequentialCell(
                    Factors(channels_out, channels_out), nn.BatchNorm3d(channels_out)
                ),
            )
            self.shortcut = None
            if stride > 1:
                self.shortcut = nn.SequentialCell(
                    conv(channels_in, channels_out, 1, stride), nn.BatchNorm3d(channels_out)
                )

        def construct(self, x):
            short = x if self.shortcut is None else self.shortcut(x)
            return ops.relu(self.body(x) + short)

    def __init__(self, table=((4, 4, 1), (4, 8, 2), (8, 16, 2))):
        super().__init__()
        self.stem = nn.SequentialCell(Factors(3, 4), nn.BatchNorm3d(4), nn.ReLU())
        self.blocks = nn.SequentialCell([self.Block(*row) for row in table])
        self.head = nn.Dense(table[-1][1], 5)

    def construct(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3, 4)))


# V-Net: residual stages, strided and transposed convolutions, PReLU, a way out by a method.


class Stage(nn.Cell):
    def __init__(self, channels, number):
        super().__init__()
        self.convs = nn.CellList([conv(channels, channels, 3) for _ in range(number)])
        self.norms = nn.CellList([nn.BatchNorm3d(channels) for _ in range(number)])
        self.act = nn.PReLU(channels)

    def construct(self, x):
        y = x
        for index, convolution in enumerate(self.convs):
            y = self.norms[index](convolution(y))
            y = self.act(y if index < len(self.convs) - 1 else y + x)
        return y


class VNet(nn.Cell):
    def __init__(self, width=4):
        super().__init__()
        self.first, self.norm = conv(1, width, 5), nn.BatchNorm3d(width)
        self.down = nn.CellList([conv(width * 2**i, width * 2 ** (i + 1), 2, 2) for i in range(2)])
        self.down_norms = nn.CellList([nn.BatchNorm3d(width * 2 ** (i + 1)) for i in range(2)])
        self.left = nn.CellList([Stage(width * 2**i, i + 1) for i in range(3)])
        self.up = nn.CellList(
            [nn.Conv3dTranspose(width * 2 ** (i + 1), width * 2**i, 2, 2) for i in range(2)]
        )
        self.up_norms = nn.CellList([nn.BatchNorm3d(width * 2**i) for i in range(2)])
        self.right = nn.CellList([Stage(width * 2**i, 2) for i in range(2)])
        self.last = conv(width, 2, 1)

    def encode(self, x):
        x = self.left[0](self.norm(self.first(x)))
        found = [x]
        for index, layer in enumerate(self.down):
            x = self.left[index + 1](ops.elu(self.down_norms[index](layer(x))))
            found.append(x)
        return found

    def construct(self, x):
        *skips, x = self.encode(x)
        for index in (1, 0):
            x = ops.elu(self.up_norms[index](self.up[index](x))) + skips[index]
            x = self.right[index](x)
        return self.last(x)


# DenseNet: the norm comes first, so that only the one within a layer follows a convolution.


class DenseLayer(nn.Cell):
    def __init__(self, channels, growth):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm3d(channels), conv(channels, 4 * growth, 1)
        self.norm2, self.conv2 = nn.BatchNorm3d(4 * growth), conv(4 * growth, growth)

    def construct(self, *features):
        x = self.conv1(ops.relu(self.norm1(ops.cat(features, 1))))
        return self.conv2(ops.relu(self.norm2(x)))


class DenseNet(nn.Cell):
    def __init__(self, growth=4, layers=(3, 4)):
        super().__init__()
        channels = 2 * growth
        self.stem = conv(1, channels, 3, 2)
        self.norm0 = nn.BatchNorm3d(channels)
        self.blocks, self.between = nn.CellList(), nn.CellList()
        for number in layers:
            block = nn.CellList([DenseLayer(channels + i * growth, growth) for i in range(number)])
            self.blocks.append(block)
            channels += number * growth
            self.between.append(
                nn.SequentialCell(
                    nn.BatchNorm3d(channels), nn.ReLU(), conv(channels, channels // 2, 1)
                )
            )
            channels //= 2
        self.head = nn.Dense(channels, 3)

    def construct(self, x):
        x = ops.relu(self.norm0(self.stem(x)))
        for block, between in zip(self.blocks, self.between, strict=True):
            features = [x]
            for layer in block:
                features.append(layer(*features))
            x = between(ops.cat(features, 1))
        return self.head(x.mean((2, 3, 4)))


DEEP = {
    "resnet": Deep(ResNet, (2, 1, 4, 8, 8), 25, 25),
    "unet": Deep(UNet, (1, 1, 8, 8, 8), 17, 17),
    "i3d": Deep(I3D, (1, 3, 3, 4, 4), 26, 26),
    "r2plus1d": Deep(R2Plus1D, (2, 3, 4, 8, 8), 16, 16),
    "vnet": Deep(VNet, (1, 1, 4, 8, 8), 15, 15),
    "densenet": Deep(DenseNet, (2, 1, 4, 8, 8), 17, 8),
}
