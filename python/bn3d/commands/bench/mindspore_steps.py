"""MindSpore's side of a measured step: forward + backward, and waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from bn3d.commands.bench.timing import seconds

__all__ = ["ForwardBackward", "unfinished_work", "wait_for"]


class ForwardBackward(nn.Cell):
    """(x, dy) -> y and the gradients of x, gamma and beta.

    `vjp` and not `GradOperation`: it returns y as well. A network uses y; were it not
    returned, GRAPH_MODE could leave the kernel out that writes it.
    """

    def __init__(self, layer: nn.Cell):
        super().__init__()
        self.layer = layer
        self.weights = ms.ParameterTuple(layer.trainable_params())
        self.set_train()

    def construct(self, x: ms.Tensor, dy: ms.Tensor) -> tuple:
        y, backward = ms.vjp(self.layer, x, weights=self.weights)
        return y, backward(dy)


def wait_for(result: Any) -> None:
    """Return when every tensor in a (nested) tuple has been computed.

    In PyNative mode a call returns while its kernels still run: with stock at
    (2,64,16,56,56) after 5 ms of 30. `asnumpy` waits too, but copies the tensor there;
    `mindspore.runtime.synchronize` is refused for a CPU at its first call. After
    `data_sync` nothing is left to wait for, which `unfinished_work` checks in each run.
    In GRAPH_MODE the call itself waits.
    """
    if isinstance(result, ms.Tensor):
        result.data_sync(True)
    else:
        for part in result:
            wait_for(part)


def unfinished_work(repeats: int = 7) -> dict[str, float]:
    """Milliseconds of a layer's work still to do after its call, and after `wait_for`.

    The first `asnumpy` waits and copies, the second only copies: the difference is what
    was unfinished.
    """
    layer = nn.BatchNorm3d(64).set_train()
    x = ms.Tensor(np.ones((2, 64, 16, 56, 56), np.float32))

    def unfinished(wait: Callable[[ms.Tensor], None]) -> float:
        y = layer(x)
        wait(y)
        return max(seconds(y.asnumpy) - seconds(y.asnumpy), 0.0) * 1e3

    def median(wait: Callable[[ms.Tensor], None]) -> float:
        return round(float(np.median([unfinished(wait) for _ in range(repeats)])), 3)

    unfinished(wait_for)  # compiles
    return {"after_the_call_ms": median(lambda y: None), "after_waiting_ms": median(wait_for)}
