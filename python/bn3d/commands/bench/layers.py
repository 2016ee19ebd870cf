"""Layers as calls: one step each, returning only when its results are there.

A provider is a function (case, step) -> call. MindSpore's mode and thread count are set
for the process before a provider runs (session.py).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bn3d.commands.bench.cases import Case

__all__ = ["PROVIDERS"]

Call = Callable[[], object]


def _input(case: Case, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(case.shape, dtype=np.float32)


def _bn3d(case: Case, step: str) -> Call:
    import bn3d  # noqa: PLC0415 - imports MindSpore, which only the measuring process should

    return _mindspore(bn3d.BatchNorm3d, case, step)


def _stock(case: Case, step: str) -> Call:
    from mindspore import nn  # noqa: PLC0415

    return _mindspore(nn.BatchNorm3d, case, step)


def _mindspore(layer_class: type, case: Case, step: str) -> Call:
    import mindspore as ms  # noqa: PLC0415

    from bn3d.commands.bench.mindspore_steps import ForwardBackward, wait_for  # noqa: PLC0415

    def tensor(seed: int) -> ms.Tensor:
        return ms.Tensor(_input(case, seed), getattr(ms, case.dtype))

    layer = layer_class(case.shape[1])
    layer.set_train(step != "inference")
    x = tensor(0)
    if step != "forward_backward":
        return lambda: wait_for(layer(x))
    forward_backward = ForwardBackward(layer)
    dy = tensor(1)
    return lambda: wait_for(forward_backward(x, dy))


def _torch(case: Case, step: str) -> Call:
    import torch  # noqa: PLC0415

    def tensor(seed: int) -> torch.Tensor:
        return torch.from_numpy(_input(case, seed)).to(getattr(torch, case.dtype))

    layer = torch.nn.BatchNorm3d(case.shape[1]).train(step != "inference")
    x = tensor(0)
    if step != "forward_backward":

        @torch.no_grad()  # MindSpore records nothing either for a gradient nobody asks for
        def forward() -> torch.Tensor:
            return layer(x)

        return forward
    x.requires_grad_()
    dy = tensor(1)
    return lambda: torch.autograd.grad(layer(x), (x, layer.weight, layer.bias), dy)


PROVIDERS: dict[str, Callable[[Case, str], Call]] = {
    "bn3d": _bn3d,
    "stock": _stock,
    "torch": _torch,
}
