"""Hooks on a batch norm layer that hold each of its calls against the judge, one at a time."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from numpy.typing import NDArray

from bn3d.backends import process_groups as groups
from bn3d.float_environment import standard_floats
from bn3d.layers.state import fixed_settings
from bn3d.layers.sync_batch_norm import SyncBatchNorm3d
from bn3d.mindspore_private.execution import is_recomputing
from bn3d.networks import torch_layers
from bn3d.networks.judging import (
    EPSILON,
    Gather,
    Quantity,
    State,
    Statistics,
    hold,
    judge,
    judge_gradient,
)
from bn3d.networks.values import as_bytes

__all__ = ["ParameterGradients", "Watch", "is_batch_norm"]


def is_batch_norm(cell: nn.Cell) -> bool:
    """Whether a cell is a batch norm over volumes, of MindSpore, of bn3d, or a subclass."""
    return isinstance(cell, torch_layers.STOCK)


class ParameterGradients:
    """What the judge expects of the gradients of gamma and beta, added up over all calls: a
    parameter may serve several layers, and a layer several calls.
    """

    def __init__(self) -> None:
        self._expected: dict[int, list] = {}

    def add(self, parameter: ms.Parameter, want: NDArray, scale: NDArray) -> None:
        entry = self._expected.setdefault(id(parameter), [0.0, 0.0])
        entry[0] = entry[0] + want
        entry[1] = entry[1] + scale

    @standard_floats()
    def hold(self, name: str, parameter: ms.Parameter, got: ms.Tensor) -> Quantity | None:
        """Compare a gradient; None where no call of a layer with the parameter was derived."""
        if id(parameter) not in self._expected:
            return None
        return hold(name, _dtype(got), _wide(got), *self._expected[id(parameter)])


@dataclass(frozen=True)
class _Call:
    """A forward pass whose backward pass is to come: no volume but x, which MindSpore keeps for
    that anyway.
    """

    x: ms.Tensor
    state: State
    statistics: Statistics


class Watch:
    """Compares every call of a layer, and with `derived` the backward pass that is to come.

    Attributes:
        name, cell: the layer.
        quantities: the largest error of each result so far, by its name.
        calls: how many forward passes there were.
        shape, dtype: of y in the last call.
        circumstances: what about the data explains an error.
    """

    def __init__(self, name: str, cell: nn.Cell, gradients: ParameterGradients, derived: bool):
        self.name, self.cell = name, cell
        self.quantities: dict[str, Quantity] = {}
        self.calls = 0
        self.shape: tuple[int, ...] = ()
        self.dtype = ""
        self.circumstances: dict[str, None] = {}
        self._gradients = gradients
        self._before: list[State] = []
        self._derived = derived
        self._open: dict[int, _Call] = {}  # by the number of the call
        self._arrived: int | None = None
        self._gather = _gather_of(cell)

        # MindSpore wants functions, no methods.
        @standard_floats()
        def before(cell, inputs):
            self._enter()

        @standard_floats()
        def after(cell, inputs, by_name, output):
            self._leave([*inputs, *by_name.values()][0], output)

        @standard_floats()
        def backward(cell, grad_input, grad_output):
            self._derive(grad_input[0], grad_output[0])

        cell.register_forward_pre_hook(before)
        cell.register_forward_hook(after, with_kwargs=True)
        if derived:
            cell.register_backward_hook(backward)

    def parameters(self) -> dict[str, ms.Parameter]:
        """Gamma and beta as "dgamma" and "dbeta", those that are trained."""
        of = torch_layers.held(self.cell)
        found = {"dgamma": of.gamma, "dbeta": of.beta}
        # Where a layer has none, bn3d computes with a Tensor of ones or zeros.
        return {
            name: p for name, p in found.items() if isinstance(p, ms.Parameter) and p.requires_grad
        }

    def keep(self, quantity: Quantity) -> None:
        """Remember a comparison if it is the worst of its name."""
        known = self.quantities.get(quantity.name)
        if known is None or quantity.error > known.error:
            self.quantities[quantity.name] = quantity

    def _enter(self) -> None:
        if not is_recomputing():
            self._before.append(_state(self.cell))

    def _leave(self, x: ms.Tensor, y: ms.Tensor) -> None:
        x = _as_computed(x, y)
        if is_recomputing():
            for number, call in self._open.items():
                if np.array_equal(as_bytes(call.x), as_bytes(x)):  # this is that call once more
                    self._announce(y, number)
            return
        state = self._before.pop()
        wide = _wide(x)
        judged = judge(wide, state, self._gather)
        self.calls += 1
        self.shape, self.dtype = tuple(x.shape), _dtype(y)
        self.keep(hold("y", self.dtype, _wide(y), *judged.y))
        after = torch_layers.held(self.cell)
        for name in ("moving_mean", "moving_variance"):
            parameter, want = getattr(after, name), getattr(judged, name)
            if parameter is not None and want is not None:
                self.keep(hold(name, _dtype(parameter), _wide(parameter), *want))
        self._explain(wide, state, judged.statistics)
        if self._derived:
            self._open[self.calls] = _Call(x, state, judged.statistics)
            self._announce(y, self.calls)

    def _announce(self, y: ms.Tensor, call: int) -> None:
        """Let the gradient of y say which call the backward hook, which follows it, is of: some
        calls have no backward pass. It knows the number alone, and keeps no volume.
        """

        def arrive(_):
            self._arrived = call

        with suppress(RuntimeError):  # a tensor without a gradient takes no hook
            y.register_hook(arrive)

    def _derive(self, dx: ms.Tensor, dy: ms.Tensor) -> None:
        # Where nothing was announced it is the last call of that shape: a backward pass goes
        # through them in reverse.
        at = self._arrived
        if at not in self._open:
            at = max(number for number, call in self._open.items() if call.x.shape == dy.shape)
        call = self._open.pop(at)
        want = judge_gradient(_wide(dy), _wide(call.x), call.state, call.statistics, self._gather)
        if dx is not None:
            narrower = max(_dtype(dx), _dtype(call.x), key=EPSILON.__getitem__)
            self.keep(hold("dx", narrower, _wide(dx), *want["dx"]))
        for name, parameter in self.parameters().items():
            self._gradients.add(parameter, *want[name])

    def _explain(self, x: NDArray, state: State, statistics: Statistics) -> None:
        """Note what makes a batch hard."""
        if not state.by_batch:
            return
        values = x.size // x.shape[1]
        if values == 1:
            self.circumstances["one value a channel, which has no unbiased variance"] = None
        elif values >= 1_000_000:
            self.circumstances[f"{values:,} values a channel"] = None
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.nanmax(np.abs(statistics.mean) / np.sqrt(statistics.variance), initial=0.0)
        if 100 < ratio < np.inf:
            self.circumstances[f"a mean of {ratio:.0f} standard deviations"] = None


def _gather_of(cell: nn.Cell) -> Gather | None:
    """How the numbers of all devices come together with which a layer shares its batch; None for
    a layer alone. Exact: each number travels as three of float32, and each device adds its row to
    zeros in those of the others.
    """
    group = groups.find(cell.process_groups) if isinstance(cell, SyncBatchNorm3d) else None
    if group is None:
        return None
    all_reduce = ops.AllReduce(ops.ReduceOp.SUM, group.group)

    def gather(row: NDArray) -> NDArray:
        parts, rest = [], row
        for _ in range(3):
            parts.append(rest.astype(np.float32))
            rest = rest - parts[-1]
        rows = np.zeros((group.size, 3, row.size), np.float32)
        rows[group.place] = parts
        return all_reduce(ms.Tensor(rows)).asnumpy().astype(np.float64).sum(1)

    return gather


def _state(cell: nn.Cell) -> State:
    inner, gamma, beta, mean, variance = torch_layers.held(cell)
    if inner is not None:
        eps, momentum = fixed_settings(cell)
        by_batch = inner.use_batch_statistics
        by_batch = inner.training if by_batch is None else by_batch
        updates = by_batch
    else:
        eps = float(cell.eps)
        by_batch = cell.training or mean is None
        updates = bool(cell.training and cell.track_running_stats and mean is not None)
        momentum = 1.0
        if updates and cell.momentum is None:  # the cumulative average
            momentum = 1 - 1 / (1 + int(cell.num_batches_tracked.asnumpy()))
        elif updates:
            momentum = 1 - float(cell.momentum)
    return State(
        np.ones(cell.num_features) if gamma is None else _wide(gamma),
        np.zeros(cell.num_features) if beta is None else _wide(beta),
        None if mean is None else _wide(mean),
        None if variance is None else _wide(variance),
        eps,
        momentum,
        by_batch,
        updates,
    )


def _as_computed(x: ms.Tensor, y: ms.Tensor) -> ms.Tensor:
    """X as the layer computed with it: mixed precision casts it to y's dtype first."""
    narrowed = EPSILON[_dtype(y)] > EPSILON[_dtype(x)]
    return ops.cast(x, y.dtype) if narrowed else x


def _dtype(tensor: ms.Tensor) -> str:
    return str(tensor.dtype).lower()


def _wide(tensor: ms.Tensor) -> NDArray:
    """The values in float64: a copy, since the memory may be written again."""
    return tensor.asnumpy().astype(np.float64)
