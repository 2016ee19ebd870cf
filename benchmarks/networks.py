"""A 3-D ResNet-18 and a 3-D U-Net of usual structure, with MindSpore's own batch norm.

ResNet: Hara, Kataoka & Satoh (arXiv:1711.09577); U-Net: Çiçek et al. (arXiv:1606.06650).
Widths are arguments, so that a training step takes about a second on two cores.
"""

from __future__ import annotations

from mindspore import nn, ops

__all__ = ["MeanSquare", "ResNet18", "UNet"]


def _convolution(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> nn.Cell:
    return nn.Conv3d(
        channels_in,
        channels_out,
        kernel,
        stride,
        pad_mode="pad",
        padding=kernel // 2,
        weight_init="he_normal",
    )


class ResidualBlock(nn.Cell):
    def __init__(self, channels_in: int, channels_out: int, stride: int):
        super().__init__()
        self.conv1 = _convolution(channels_in, channels_out, stride=stride)
        self.bn1 = nn.BatchNorm3d(channels_out)
        self.conv2 = _convolution(channels_out, channels_out)
        self.bn2 = nn.BatchNorm3d(channels_out)
        self.shortcut = nn.SequentialCell()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.SequentialCell(
                _convolution(channels_in, channels_out, kernel=1, stride=stride),
                nn.BatchNorm3d(channels_out),
            )

    def construct(self, x):
        y = ops.relu(self.bn1(self.conv1(x)))
        return ops.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet18(nn.Cell):
    """Video (N, 3, D, H, W) -> class logits (N, classes); 20 batch norms."""

    def __init__(self, width: int = 16, classes: int = 10):
        super().__init__()
        self.stem = nn.SequentialCell(
            _convolution(3, width, kernel=7, stride=2), nn.BatchNorm3d(width), nn.ReLU()
        )
        widths = [width * 2**stage for stage in range(4)]
        blocks, channels = [], width
        for stage, channels_out in enumerate(widths):
            for block in range(2):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(ResidualBlock(channels, channels_out, stride))
                channels = channels_out
        self.blocks = nn.SequentialCell(blocks)
        self.head = nn.Dense(channels, classes)

    def construct(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3, 4)))


class UNet(nn.Cell):
    """Volume (N, 1, D, H, W), sides divisible by 2**depth -> voxel logits (N, classes, D, H, W)."""

    def __init__(self, width: int = 8, depth: int = 2, classes: int = 2):
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.CellList(
            [_two_convolutions(a, b) for a, b in zip([1, *widths], widths, strict=False)]
        )
        self.pool = nn.MaxPool3d(kernel_size=2, stride=2)
        deep_to_shallow = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.CellList([_doubling(a, b) for a, b in deep_to_shallow])
        self.merge = nn.CellList([_two_convolutions(2 * b, b) for _, b in deep_to_shallow])
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


def _two_convolutions(channels_in: int, channels_out: int) -> nn.Cell:
    layers = []
    for channels in (channels_in, channels_out):
        layers += [_convolution(channels, channels_out), nn.BatchNorm3d(channels_out), nn.ReLU()]
    return nn.SequentialCell(layers)


def _doubling(channels_in: int, channels_out: int) -> nn.Cell:
    return nn.Conv3dTranspose(channels_in, channels_out, kernel_size=2, stride=2, pad_mode="valid")


class MeanSquare(nn.Cell):
    """A loss without labels: the mean square of the network's output."""

    def __init__(self, network: nn.Cell):
        super().__init__()
        self.network = network

    def construct(self, x):
        return ops.square(self.network(x)).mean()
