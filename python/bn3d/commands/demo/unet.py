"""A small 3-D U-Net (Çiçek et al., 2016) of (2+1)-D convolutions (Tran et al., 2018).

Written with mindspore.nn only: nothing in it knows of bn3d.
"""

from __future__ import annotations

from collections.abc import Callable

from mindspore import Tensor, nn, ops


def convolve(inputs: int, outputs: int, norm: Callable[[int], nn.Cell]) -> nn.SequentialCell:
    """A 3 x 3 x 3 convolution as 1 x 3 x 3 and 3 x 1 x 1: half the time on a CPU."""
    plane = nn.Conv3d(
        inputs, outputs, (1, 3, 3), pad_mode="pad", padding=(0, 0, 1, 1, 1, 1), has_bias=False
    )
    depth = nn.Conv3d(
        outputs, outputs, (3, 1, 1), pad_mode="pad", padding=(1, 1, 0, 0, 0, 0), has_bias=False
    )
    return nn.SequentialCell(plane, norm(outputs), nn.ReLU(), depth, norm(outputs), nn.ReLU())


class UNet(nn.Cell):
    """(N, 1, D, H, W) to logits (N, classes, D, H, W); D, H and W are multiples of 4."""

    def __init__(
        self, classes: int, width: int = 8, norm: Callable[[int], nn.Cell] = nn.BatchNorm3d
    ) -> None:
        super().__init__()

        def block(inputs: int, outputs: int) -> nn.SequentialCell:
            return nn.SequentialCell(
                convolve(inputs, outputs, norm), convolve(outputs, outputs, norm)
            )

        def up(inputs: int, outputs: int) -> nn.Cell:
            return nn.Conv3dTranspose(inputs, outputs, 2, stride=2, pad_mode="valid")

        self.down1 = block(1, width)
        self.down2 = block(width, 2 * width)
        self.bottom = block(2 * width, 4 * width)
        self.up2 = up(4 * width, 2 * width)
        self.merge2 = block(4 * width, 2 * width)
        self.up1 = up(2 * width, width)
        self.merge1 = block(2 * width, width)
        self.head = nn.Conv3d(width, classes, 1, has_bias=True)
        self.pool = nn.MaxPool3d(2, stride=2)

    def construct(self, x: Tensor) -> Tensor:
        fine = self.down1(x)
        middle = self.down2(self.pool(fine))
        coarse = self.bottom(self.pool(middle))
        middle = self.merge2(ops.concat((self.up2(coarse), middle), 1))
        fine = self.merge1(ops.concat((self.up1(middle), fine), 1))
        return self.head(fine)
