"""`cross_check` holds every batch norm layer of a user's network, on the user's data, against the
judge.

One forward pass, and in training mode one backward pass, run as they are, on whatever device and
backend, watched by hooks. What goes into a layer and what comes out is compared with
`bn3d.reference` in float64; nothing is compared with what another layer made of it, so an error
shows in the layer that makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import mint, nn, ops
from mindspore.experimental import optim

from bn3d.layers.batch_norm import BatchNorm3d
from bn3d.networks.cells import cells, check_net
from bn3d.networks.check_report import CrossCheck, LayerCheck
from bn3d.networks.layer_watch import ParameterGradients, Watch, is_batch_norm
from bn3d.networks.snapshot import Snapshot
from bn3d.networks.watching import pynative_mode
from bn3d.reference import TOLERANCES

__all__ = ["cross_check", "layers_to_check"]


def cross_check(
    net: nn.Cell, *inputs: Any, loss: Callable[[Any], ms.Tensor] | None = None
) -> CrossCheck:
    """Hold every batch norm layer of a network against the judge, on the user's own data.

    Runs `net(*inputs)` once, in PyNative mode, and in training mode one backward pass. The layers
    are `nn.BatchNorm3d`, `mint.nn.BatchNorm3d`, those of bn3d, and their subclasses. The network
    is as it was afterwards, also when it raises: parameters, statistics, hooks, flags, mode.
    Random numbers that the network draws are drawn.

    In graph mode MindSpore compiles the same operators without hooks; the check runs in PyNative
    mode then, too. Layers inside a `mindspore.jit` function are reported as not called.

    Args:
        net: the network, or a bare layer; `net.training` says whether it trains. Without an
            optimizer, which would move the parameters within the call: `nn.WithLossCell` at most.
        inputs: what the network is called with.
        loss: takes what the network returns and gives a scalar Tensor. Default: a sum of all
            floating outputs with fixed random weights.

    Returns:
        `ok`, and a check for each layer, worst first; `str()` of it is a table.

    Raises:
        TypeError: `net` is no Cell, or `loss` cannot be called.
        ValueError: the network has no batch norm over volumes, or holds an optimizer, or a loss is
            given for a network in evaluation mode.

    Supported Platforms:
        ``Ascend`` ``CPU``

    Examples:
        >>> net = nn.SequentialCell(nn.Conv3d(1, 8, 3), nn.BatchNorm3d(8)).set_train()
        >>> bn3d.cross_check(net, ops.ones((2, 1, 8, 8, 8))).ok
        True
    """
    layers = layers_to_check(net, loss)
    mode = ms.get_context("mode")
    with ExitStack() as undo:
        undo.callback(Snapshot(net).restore)
        undo.enter_context(pynative_mode())
        gradients = ParameterGradients()
        watches = [Watch(name, cell, gradients, net.training) for name, cell in layers]
        if net.training:
            _step(net, inputs, loss or _weighted_sum, watches, gradients)
        else:
            net(*inputs)
        checks = [_layer_check(watch) for watch in watches]
    checks.sort(key=lambda check: (check.ok, -check.error))
    return CrossCheck(checks, net.training, _notes(mode, watches))


def layers_to_check(net: nn.Cell, loss: Any = None) -> list[tuple[str, nn.Cell]]:
    """The batch norm layers of a network, by name; the errors are those of `cross_check`."""
    check_net(net)
    if loss is not None and not callable(loss):
        raise TypeError(f"'loss' must be callable, got {loss!r} ({type(loss).__name__})")
    if loss is not None and not net.training:
        raise ValueError("'loss' needs a network in training mode: net.set_train() first")
    every = list(cells(net))
    for _, cell in every:
        if isinstance(cell, nn.Optimizer | optim.Optimizer):
            raise ValueError(
                f"'net' must be without an optimizer, got {type(net).__name__} with "
                f"{type(cell).__name__}: give the network itself, or nn.WithLossCell"
            )
    layers = [(name, cell) for name, cell in every if is_batch_norm(cell)]
    if not layers:
        raise ValueError(f"bn3d.cross_check found no BatchNorm3d in {type(net).__name__}")
    return layers


def _step(
    net: nn.Cell,
    inputs: tuple,
    loss: Callable[[Any], ms.Tensor],
    watches: list[Watch],
    gradients: ParameterGradients,
) -> None:
    """One forward and backward pass; the watches keep how gamma's and beta's gradients compare."""

    def forward(*inputs):
        return loss(net(*inputs))

    users = [(watch, *item) for watch in watches for item in watch.parameters().items()]
    # By all there is, so that the gradient of every layer's input is computed.
    parameters = {id(p): p for p in (*(p for _, _, p in users), *net.trainable_params())}
    floating = tuple(i for i, value in enumerate(inputs) if _is_floating(value))
    weights = ms.ParameterTuple(parameters.values()) if parameters else None
    found = ms.grad(forward, floating or None, weights)(*inputs)
    if weights is None:
        return
    of = dict(zip(parameters, found[1] if floating else found, strict=True))
    for watch, name, parameter in users:
        quantity = gradients.hold(name, parameter, of[id(parameter)])
        if quantity is not None:
            watch.keep(quantity)


def _layer_check(watch: Watch) -> LayerCheck:
    cell = watch.cell
    quantities = tuple(watch.quantities.values())
    return LayerCheck(
        watch.name,
        type(cell).__name__,
        _backend(cell),
        watch.shape,
        watch.dtype,
        watch.calls,
        quantities,
        _reasons(watch),
    )


def _backend(cell: nn.Cell) -> str:
    construct = type(cell).construct
    if construct is BatchNorm3d.construct:
        return cell._bn3d_backend
    if construct in (nn.BatchNorm3d.construct, mint.nn.BatchNorm3d.construct):
        return "mindspore"
    return type(cell).__qualname__


def _reasons(watch: Watch) -> tuple[str, ...]:
    """What is wrong, and what about the data explains it."""
    wrong = [
        f"{q.name} is {q.worst[0]:.6g} where the judge has {q.worst[1]:.6g} "
        f"({q.error:.1e} of its scale, {TOLERANCES[q.dtype]:.0e} is allowed)"
        for q in watch.quantities.values()
        if not q.ok
    ]
    if wrong and watch.circumstances:
        wrong.append(f"the batch has {', '.join(watch.circumstances)}")
    return tuple(wrong)


def _notes(mode: int, watches: list[Watch]) -> list[str]:
    notes = []
    if mode == ms.GRAPH_MODE:
        notes.append("ran in PyNative mode: graphs, which MindSpore compiles, run no hooks")
    silent = [watch.name for watch in watches if not watch.calls]
    if silent:
        notes.append(f"not called, or inside of a mindspore.jit: {', '.join(silent)}")
    return notes


def _weighted_sum(output: Any) -> ms.Tensor:
    """A scalar in which no value of the output counts like its neighbour: were all alike, the
    gradient would vanish in a batch norm.
    """
    random = np.random.default_rng(0)
    total = ops.zeros((), ms.float32)
    for value in _tensors(output):
        weights = ms.Tensor(random.standard_normal(value.shape).astype(np.float32))
        total = total + (ops.cast(value, ms.float32) * weights).sum()
    return total


def _tensors(value: Any) -> Iterator[ms.Tensor]:
    if _is_floating(value):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)


def _is_floating(value: Any) -> bool:
    return isinstance(value, ms.Tensor) and value.is_floating_point()
