"""What a backend is: the contract between the layers and what computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from mindspore import Tensor

__all__ = ["Backend", "Group", "Operators"]


class Operators(NamedTuple):
    """The four operators of `bn3d.operators`, in their order."""

    reduce: Callable
    apply: Callable
    grad_reduce: Callable
    grad_apply: Callable


@dataclass(frozen=True)
class Backend:
    """The functions of a backend. x and y are (N, C, D, H, W), all parameters (C,).

    Attributes:
        name: what BN3D_BACKEND calls it.
        settings: (eps, momentum) -> settings, in the form in which the next two take them.
        forward_training: (x, gamma, beta, moving_mean, moving_variance, settings) -> (y, ...).
            It updates the moving statistics, unless momentum is 1.
        forward_inference: the same arguments -> y.
        operators: what batches that span devices are computed with, by
            `bn3d.backends.synchronised`, and what `bn3d verify` checks one by one.
        dtypes: names of the dtypes of volumes that the operators take; layers cast others.
        compiled: wraps what calls an operator in PyNative mode, as `mindspore.jit` does; None
            where no wrapping is needed.
        probed: whether the operators are compiled by shape and may fail: layers try them first.
        variant: what the name leaves open, such as the instruction set of the native library.
    """

    name: str
    settings: Callable[[float, float], Any]
    forward_training: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Any], tuple[Tensor, ...]]
    forward_inference: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Any], Tensor]
    operators: Operators
    dtypes: tuple[str, ...] = ("float32", "float16", "bfloat16", "float64")
    compiled: Callable[[Callable], Callable] | None = None
    probed: bool = False
    variant: str = ""

    @property
    def label(self) -> str:
        """The name, and the variant if there are several: "native, avx2"."""
        return f"{self.name}, {self.variant}" if self.variant else self.name


class Group(Protocol):
    """Devices whose batches count as one, such as `bn3d.backends.synchronised.Group`.

    Vectors are float32 (C,). `count`, the values per channel, comes as a number or a float32
    tensor (1,) and is returned as such a tensor.
    """

    def statistics(
        self, shift: Tensor, first: Tensor, second: Tensor, count: float | Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(shift, first, second, count) of all devices from those of each: sums of x - shift
        and of (x - shift)^2. The shifts of the devices differ; the one returned is common.
        """

    def sums(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """(first, second), added up over the devices. Calls no Python function that
        `statistics` calls too: MindSpore 2.10 loses one that two passes of a gradient both call.
        """

    def channel_mean(self, x: Tensor) -> Tensor:
        """What `bn3d.backends.channels.channel_mean` is for one device, differentiable."""
