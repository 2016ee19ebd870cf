"""Training whose batch spans devices: `bn3d.backends.split` with MindSpore's collectives.

Each layer needs one AllReduce of one float32 vector forward and one backward, with C channels
on R devices:

    forward:   a row of shift, sum(x - shift), sum((x - shift)^2), count a device   R(3C + 1)
    backward:  sum(dy * normalised x), sum(dy)                                      2C

Forward, each device sums about a shift near its own mean. There is no other shift that all
know before they have talked to each other and that is surely near the mean of all; and about
one that is not, sums in float32 cancel. So the shifts travel with the sums. Each device adds
its row to zeros in the rows of the others, which is exact, and all combine the same rows in the
same order, to the same bits. An AllGather would do the same, but MindSpore's on a CPU refuses
every group except that of all processes.

Formula: Chan, Golub & LeVeque, "Algorithms for Computing the Sample Variance" (1983), eq. 2.1,
about the weighted mean of the shifts.
"""

from __future__ import annotations

import functools

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from bn3d.backends import split
from bn3d.backends.backend import Backend
from bn3d.backends.channels import AXES, is_empty, values_per_channel
from bn3d.backends.process_groups import Membership

__all__ = ["Group", "build", "values_backward", "values_forward"]


def values_forward(channels: int, devices: int) -> int:
    """float32 values in the AllReduce of a layer's forward pass."""
    return devices * (3 * channels + 1)


def values_backward(channels: int) -> int:
    """float32 values in the AllReduce of a layer's gradient, for any number of devices."""
    return 2 * channels


@functools.cache
def build(backend: Backend, membership: Membership) -> split.Split:
    """The functions of a backend with batches that span the devices of a group."""
    group = Group(membership)
    return split.build(
        backend.operators, group, backend.compiled, backend.dtypes, probed=backend.probed
    )


class Group(nn.Cell):
    """Adds up over the devices of a communication group; see `bn3d.backends.backend.Group`."""

    def __init__(self, membership: Membership) -> None:
        super().__init__(auto_prefix=False)
        self.all_reduce = ops.AllReduce(ops.ReduceOp.SUM, membership.group)
        self.own_row = ms.Tensor(np.arange(membership.size)[:, None] == membership.place)

    def statistics(
        self, shift: ms.Tensor, first: ms.Tensor, second: ms.Tensor, count: float | ms.Tensor
    ) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor, ms.Tensor]:
        """(shift, sums, count) of all devices from those of each."""
        channels = shift.shape[0]
        row = ops.concat((shift, first, second, _vector(count)))
        rows = self.all_reduce(ops.where(self.own_row, row, 0.0))
        shifts, firsts = rows[:, :channels], rows[:, channels : 2 * channels]
        seconds, counts = rows[:, 2 * channels : 3 * channels], rows[:, 3 * channels :]

        count = ops.reduce_sum(counts, 0)
        common = ops.reduce_sum(counts / ops.maximum(count, 1) * shifts, 0)
        moved = shifts - common
        first = ops.reduce_sum(firsts + counts * moved, 0)
        second = ops.reduce_sum(seconds + moved * (2 * firsts + counts * moved), 0)
        return common, first, second, count

    def sums(self, first: ms.Tensor, second: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """The sums over all devices."""
        channels = first.shape[0]
        total = self.all_reduce(ops.concat((first, second)))
        return total[:channels], total[channels:]

    def channel_mean(self, x: ms.Tensor) -> ms.Tensor:
        """Mean of each channel over all devices, (1, C, 1, 1, 1); differentiable."""
        if is_empty(x.shape):
            total = self.all_reduce(ops.zeros((1, x.shape[1], 1, 1, 1), x.dtype))
        else:
            total = self.all_reduce(ops.sum(x, AXES, True))
        count = self.all_reduce(_vector(values_per_channel(x)))
        return total / ops.maximum(count, 1)


def _vector(count):
    """A count as a float32 tensor (1,)."""
    if isinstance(count, ms.Tensor):
        return count
    return ops.full((1,), count, dtype=ms.float32)
