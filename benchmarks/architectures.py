"""Five networks over volumes and video of usual structure, with MindSpore's own batch norm.

They differ in how much of a step batch norm takes: most where convolutions are cheap (small
ones in R(2+1)D, few channels in DenseNet), least in the ResNet. Widths are arguments, so that a
training step takes some hundred milliseconds on two cores. `norm` makes the norm layers.

ResNet: Hara, Kataoka & Satoh (arXiv:1711.09577); U-Net: Çiçek et al. (arXiv:1606.06650);
V-Net: Milletari, Navab & Ahmadi (arXiv:1606.04797); R(2+1)D: Tran et al. (arXiv:1711.11248);
DenseNet: Huang et al. (arXiv:1608.06993).
"""

from __future__ import annotations

from collections.abc import Callable

from mindspore import nn, ops

__all__ = ["DenseNet", "MeanSquare", "R2Plus1D", "ResNet18", "UNet", "VNet"]

Norm = Callable[[int], nn.Cell]
Size = int | tuple[int, int, int]


def _convolution(
    channels_in: int, channels_out: int, kernel: Size = 3, stride: Size = 1
) -> nn.Cell:
    sizes = (kernel,) * 3 if isinstance(kernel, int) else kernel
    return nn.Conv3d(
        channels_in,
        channels_out,
        kernel,
        stride,
        pad_mode="pad",
        padding=tuple(size // 2 for size in sizes for _ in range(2)),
        weight_init="he_normal",
    )


def _doubling(channels_in: int, channels_out: int) -> nn.Cell:
    return nn.Conv3dTranspose(channels_in, channels_out, kernel_size=2, stride=2, pad_mode="valid")


class ResidualBlock(nn.Cell):
    def __init__(self, channels_in: int, channels_out: int, stride: int, norm: Norm):
        super().__init__()
        self.conv1 = _convolution(channels_in, channels_out, stride=stride)
        self.bn1 = norm(channels_out)
        self.conv2 = _convolution(channels_out, channels_out)
        self.bn2 = norm(channels_out)
        self.shortcut = nn.SequentialCell()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.SequentialCell(
                _convolution(channels_in, channels_out, kernel=1, stride=stride),
                norm(channels_out),
            )

    def construct(self, x):
        y = ops.relu(self.bn1(self.conv1(x)))
        return ops.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet18(nn.Cell):
    """Video (N, 3, D, H, W) -> class logits (N, classes); 20 batch norms."""

    def __init__(self, width: int = 16, classes: int = 10, norm: Norm = nn.BatchNorm3d):
        super().__init__()
        self.stem = nn.SequentialCell(
            _convolution(3, width, kernel=7, stride=2), norm(width), nn.ReLU()
        )
        widths = [width * 2**stage for stage in range(4)]
        blocks, channels = [], width
        for stage, channels_out in enumerate(widths):
            for block in range(2):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(ResidualBlock(channels, channels_out, stride, norm))
                channels = channels_out
        self.blocks = nn.SequentialCell(blocks)
        self.head = nn.Dense(channels, classes)

    def construct(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3, 4)))


class UNet(nn.Cell):
    """Volume (N, 1, D, H, W), sides divisible by 2**depth -> voxel logits (N, classes, D, H, W)."""

    def __init__(
        self, width: int = 8, depth: int = 2, classes: int = 2, norm: Norm = nn.BatchNorm3d
    ):
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.CellList(
            [_two_convolutions(a, b, norm) for a, b in zip([1, *widths], widths, strict=False)]
        )
        self.pool = nn.MaxPool3d(kernel_size=2, stride=2)
        deep_to_shallow = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.CellList([_doubling(a, b) for a, b in deep_to_shallow])
        self.merge = nn.CellList([_two_convolutions(2 * b, b, norm) for _, b in deep_to_shallow])
        self.head = _convolution(width, classes, kernel=1)

    def construct(self, x):
        x = self.down[0](x)
        skipped = ()
        for level in self.down[1:]:
            skipped = (x, *skipped)
            x = level(self.pool(x))
        for level, skip in enumerate(skipped):
            x = self.merge[level](ops.cat((skip, self.up[level](x)), 1))
        return self.head(x)


def _two_convolutions(channels_in: int, channels_out: int, norm: Norm) -> nn.Cell:
    layers = []
    for channels in (channels_in, channels_out):
        layers += [_convolution(channels, channels_out), norm(channels_out), nn.ReLU()]
    return nn.SequentialCell(layers)


class _Residual(nn.Cell):
    """x + convolutions of x, each with its norm, and ReLU after the sum."""

    def __init__(self, channels: int, convolutions: int, norm: Norm):
        super().__init__()
        layers = []
        for number in range(convolutions):
            layers += [_convolution(channels, channels), norm(channels)]
            layers += [nn.ReLU()] if number < convolutions - 1 else []
        self.layers = nn.SequentialCell(layers)

    def construct(self, x):
        return ops.relu(x + self.layers(x))


class VNet(nn.Cell):
    """Volume (N, 1, D, H, W), sides divisible by 4 -> voxel logits (N, classes, D, H, W); strided
    convolutions instead of pooling, residual stages.
    """

    def __init__(self, width: int = 8, classes: int = 2, norm: Norm = nn.BatchNorm3d):
        super().__init__()

        def normed(convolution: nn.Cell, channels: int) -> nn.Cell:
            return nn.SequentialCell(convolution, norm(channels), nn.ReLU())

        def halving(channels: int) -> nn.Cell:
            return nn.Conv3d(channels, 2 * channels, 2, stride=2, pad_mode="valid")

        self.stem = normed(_convolution(1, width), width)
        self.stage1 = _Residual(width, 1, norm)
        self.down1 = normed(halving(width), 2 * width)
        self.stage2 = _Residual(2 * width, 2, norm)
        self.down2 = normed(halving(2 * width), 4 * width)
        self.stage3 = _Residual(4 * width, 2, norm)
        self.up2 = normed(_doubling(4 * width, 2 * width), 2 * width)
        self.merge2 = normed(_convolution(4 * width, 2 * width), 2 * width)
        self.up1 = normed(_doubling(2 * width, width), width)
        self.merge1 = normed(_convolution(2 * width, width), width)
        self.head = _convolution(width, classes, kernel=1)

    def construct(self, x):
        fine = self.stage1(self.stem(x))
        middle = self.stage2(self.down1(fine))
        coarse = self.stage3(self.down2(middle))
        middle = self.merge2(ops.cat((middle, self.up2(coarse)), 1))
        return self.head(self.merge1(ops.cat((fine, self.up1(middle)), 1)))


class _Apart(nn.Cell):
    """A 3x3x3 convolution as one over the plane and one over time, with a norm between them."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, norm: Norm):
        super().__init__()
        # as many weights as the whole one
        between = 27 * channels_in * channels_out // (9 * channels_in + 3 * channels_out)
        self.layers = nn.SequentialCell(
            *(_convolution(channels_in, between, (1, 3, 3), (1, stride, stride)), norm(between)),
            *(nn.ReLU(), _convolution(between, channels_out, (3, 1, 1), (stride, 1, 1))),
        )

    def construct(self, x):
        return self.layers(x)


class _BlockApart(nn.Cell):
    def __init__(self, channels_in: int, channels_out: int, stride: int, norm: Norm):
        super().__init__()
        self.layers = nn.SequentialCell(
            *(_Apart(channels_in, channels_out, stride, norm), norm(channels_out), nn.ReLU()),
            *(_Apart(channels_out, channels_out, 1, norm), norm(channels_out)),
        )
        self.shortcut = nn.SequentialCell()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.SequentialCell(
                _convolution(channels_in, channels_out, 1, stride), norm(channels_out)
            )

    def construct(self, x):
        return ops.relu(self.layers(x) + self.shortcut(x))


class R2Plus1D(nn.Cell):
    """Video (N, 3, D, H, W) -> class logits (N, classes); twice the norm layers of a ResNet."""

    def __init__(self, width: int = 16, classes: int = 10, norm: Norm = nn.BatchNorm3d):
        super().__init__()
        self.stem = nn.SequentialCell(_Apart(3, width, 1, norm), norm(width), nn.ReLU())
        blocks, channels = [], width
        for stage in range(3):
            for stride in (1 if stage == 0 else 2, 1):
                blocks.append(_BlockApart(channels, width << stage, stride, norm))
                channels = width << stage
        self.blocks = nn.SequentialCell(blocks)
        self.head = nn.Dense(channels, classes)

    def construct(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3, 4)))


class _DenseLayer(nn.Cell):
    """Norm, ReLU and a convolution to `growth` channels, which join those of x."""

    def __init__(self, channels: int, growth: int, norm: Norm):
        super().__init__()
        self.norm = norm(channels)
        self.convolution = _convolution(channels, growth)

    def construct(self, x):
        return ops.cat((x, self.convolution(ops.relu(self.norm(x)))), 1)


class DenseNet(nn.Cell):
    """Volume (N, 1, D, H, W) -> class logits (N, classes); every norm reads all before it."""

    def __init__(
        self,
        growth: int = 8,
        layers: tuple[int, ...] = (4, 4, 4),
        classes: int = 10,
        norm: Norm = nn.BatchNorm3d,
    ):
        super().__init__()
        channels = 2 * growth
        parts = [_convolution(1, channels, stride=2)]
        for number, count in enumerate(layers):
            for _ in range(count):
                parts.append(_DenseLayer(channels, growth, norm))
                channels += growth
            parts += [norm(channels), nn.ReLU()]
            if number < len(layers) - 1:
                parts += [_convolution(channels, channels // 2, kernel=1)]
                parts += [nn.AvgPool3d(kernel_size=2, stride=2)]
                channels //= 2
        self.parts = nn.SequentialCell(parts)
        self.head = nn.Dense(channels, classes)

    def construct(self, x):
        return self.head(self.parts(x).mean((2, 3, 4)))


class MeanSquare(nn.Cell):
    """A loss without labels: the mean square of the network's output."""

    def __init__(self, network: nn.Cell):
        super().__init__()
        self.network = network

    def construct(self, x):
        return ops.square(self.network(x)).mean()
