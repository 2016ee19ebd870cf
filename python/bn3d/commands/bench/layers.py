"""Layers as calls, one step each.

A provider is a function (case, step) -> call. MindSpore's device, mode and thread count are set
for the process before a provider runs (session.py, device.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from bn3d.commands.bench.cases import Case
from bn3d.commands.bench.standard_error import held_back
from bn3d.commands.bench.timing import Call

if TYPE_CHECKING:
    from mindspore import Tensor

__all__ = [
    "BARE",
    "PROVIDERS",
    "addition",
    "bn3d_layer",
    "prepared",
    "refuses",
    "stock_layer",
]

Provider = Callable[[Case, str], Call]


def prepared(
    providers: Mapping[str, Provider],
    case: Case,
    step: str,
    wait: Callable[[], object] = lambda: None,
) -> tuple[dict[str, Call], dict[str, str]]:
    """Calls that have run once, which compiles them; and why the other providers refused.

    `wait` returns when what a call has begun is done.
    """
    calls, refused = {}, {}
    for name, provider in providers.items():
        with held_back() as drop:
            try:
                call = provider(case, step)
                call()
                wait()
            except Exception as error:
                refused[name] = _why(error, case)
                if refused[name] == refuses(case):
                    drop()  # a page of MindSpore's that says the same
            else:
                calls[name] = call
    return calls, refused


def refuses(case: Case) -> str:
    """Why there is no time, where a provider has nothing for the dtype."""
    return f"refuses {case.dtype}"


def _why(error: Exception, case: Case) -> str:
    if isinstance(error, TypeError) and case.dtype in str(error).lower():
        return refuses(case)
    said = str(error).strip().partition("\n")[0]  # MindSpore says a page
    return f"{type(error).__name__}: {said}".removesuffix(": ")


def bn3d_layer(case: Case, step: str) -> Call:
    """bn3d's layer. Where MindSpore does not wait itself, the call returns before its results."""
    import bn3d  # noqa: PLC0415 - imports MindSpore, which only the measuring process should

    return _mindspore(bn3d.BatchNorm3d, case, step)


def stock_layer(case: Case, step: str) -> Call:
    """MindSpore's own layer, like `bn3d_layer`."""
    from mindspore import nn  # noqa: PLC0415

    return _mindspore(nn.BatchNorm3d, case, step)


def bare_layer(case: Case, step: str) -> Call:
    """The operators of bn3d's layer, called without what the layer does around them."""
    from mindspore import nn  # noqa: PLC0415

    from bn3d import backends  # noqa: PLC0415

    backend = backends.choose().backend
    training = step != "inference"

    class Bare(nn.Cell):
        def __init__(self, channels):
            super().__init__()
            bn2d = nn.BatchNorm2d(channels)
            self.gamma, self.beta = bn2d.gamma, bn2d.beta
            self.moving_mean, self.moving_variance = bn2d.moving_mean, bn2d.moving_variance
            self.settings = backend.settings(1e-5, 0.9)

        def construct(self, x):
            inputs = (x, self.gamma, self.beta, self.moving_mean, self.moving_variance)
            if training:
                return backend.forward_training(*inputs, self.settings)[0]
            return backend.forward_inference(*inputs, self.settings)

    return _mindspore(Bare, case, step)


def addition(case: Case, step: str) -> Call:
    """One addition in MindSpore, whatever the step: the volume is read once and written once."""
    from mindspore import nn  # noqa: PLC0415

    class Addition(nn.Cell):
        def construct(self, x):
            return x + 1

    net, x = Addition(), _tensor(case, 0)
    return lambda: net(x)


def _input(case: Case, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(case.shape, dtype=np.float32)


def _tensor(case: Case, seed: int) -> Tensor:
    import mindspore as ms  # noqa: PLC0415

    return ms.Tensor(_input(case, seed), getattr(ms, case.dtype))


def _mindspore(layer_class: type, case: Case, step: str) -> Call:
    from bn3d.commands.bench.mindspore_steps import ForwardBackward  # noqa: PLC0415

    layer = layer_class(case.shape[1])
    layer.set_train(step != "inference")
    x = _tensor(case, 0)
    if step != "forward_backward":
        return lambda: layer(x)
    forward_backward = ForwardBackward(layer)
    dy = _tensor(case, 1)
    return lambda: forward_backward(x, dy)


def _waiting(provider: Provider) -> Provider:
    """The same with calls that return when their results are there."""

    def waiting(case: Case, step: str) -> Call:
        from bn3d.commands.bench.mindspore_steps import wait_for  # noqa: PLC0415

        call = provider(case, step)
        return lambda: wait_for(call())

    return waiting


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


BARE = _waiting(bare_layer)

PROVIDERS: dict[str, Provider] = {
    "bn3d": _waiting(bn3d_layer),
    "stock": _waiting(stock_layer),
    "torch": _torch,
}
