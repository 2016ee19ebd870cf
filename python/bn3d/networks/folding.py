"""`fold` puts batch norm into the layer before it, for inference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from bn3d.backends import process_groups as groups
from bn3d.layers.state import detach
from bn3d.mindspore_private.cells import own_parameters, remove_all, restorer
from bn3d.mindspore_private.execution import is_recording
from bn3d.mindspore_private.hooks import has_any, has_forward_hooks
from bn3d.networks import torch_layers
from bn3d.networks.cells import cells, check_net, forget_compiled
from bn3d.networks.experiment import Experiment, Pair
from bn3d.networks.fold_arithmetic import (
    PRODUCERS,
    Weights,
    folded_weights,
    nan_weights,
    reason_against,
)
from bn3d.networks.fold_report import FoldReport
from bn3d.networks.one_way import OneWay
from bn3d.networks.values import arrays

__all__ = ["fold"]

# How far a folded layer may be from the two, as a part of the largest value: rounding. What is
# float32 may have been computed in float16, by mixed precision.
_TOLERANCE = {ms.float64: 1e-10, ms.float32: 2e-3, ms.float16: 2e-2, ms.bfloat16: 1e-1}
_GROSS = 0.1  # and a whole network, where rounding may have grown


class Folded(nn.Cell):
    """The identity, as which a batch norm that was folded goes on; called by keyword as well."""

    def construct(self, x: Tensor) -> Tensor:
        return x


def fold(net: nn.Cell, *inputs: object, run: Callable[[], object] | None = None) -> FoldReport:
    """Fold every BatchNorm3d of a network into the Conv3d, Conv3dTranspose, Dense or
    mint.nn.Linear before it.

    In place, for inference, and for good: `copy.deepcopy(net)` first to train on. The weights
    of the layer before are scaled, it gets a bias, and the batch norm becomes the identity
    without parameters. The output stays the same within rounding. `mindspore.export` makes
    files of the result that load without bn3d.

    A layer is folded if nothing but the batch norm reads its output and its weights. That is
    found out by running the network, three times or more often: where decoys take their place,
    nothing else may change by a single bit. After each run all is as it was.

    So it is proven for these inputs. Not seen are ways through the code that they do not take
    (`FoldReport.one_way` lists the conditions), masks inside operators that let nothing pass
    for them, and readers outside the network: other networks with its layers, hooks, global
    variables, files, what it keeps in objects of other libraries. Give inputs like those to come,
    and with `run` all ways that matter.

    A network may take gradients by its inputs itself; a layer is left if one is taken by its
    parameters.

    Args:
        net: the network in evaluation mode, `net.set_train(False)`.
        inputs: what to call it with.
        run: instead of inputs, a function that calls the network, in every way that matters,
            and returns what it gives: `run=lambda: (net(a), net.encode(b, scale=2))`.

    Returns:
        What was folded, what not and why.

    Raises:
        TypeError: `net` is no Cell, or there are neither inputs nor `run`.
        ValueError: `run` returns no Tensor.

    What the network raises on these inputs is raised; nothing has changed then.

    Supported Platforms:
        ``Ascend`` ``CPU``

    Examples:
        >>> net = nn.SequentialCell(nn.Conv3d(1, 8, 3), nn.BatchNorm3d(8)).set_train(False)
        >>> bn3d.fold(net, ops.ones((1, 1, 8, 8, 8))).folded
        {'1': '0'}
    """
    check_net(net)
    run = _runner(net, inputs, run)
    every = list(cells(net))
    names = {id(cell): name for name, cell in every}
    norms = [cell for _, cell in every if isinstance(cell, torch_layers.STOCK)]
    several = _several_processes()
    left = {norm: why for norm in norms if (why := several or reason_against(norm))}
    report = FoldReport()
    if len(left) < len(norms):
        with OneWay() as ways:
            experiment = Experiment(net, run, PRODUCERS, torch_layers.STOCK)
        report.one_way = ways.lines()
        plan = _Plan([cell for _, cell in every], experiment.result)
        found = {norm: pair for norm, pair in experiment.found.items() if norm not in left}
        left |= {norm: why for norm, why in found.items() if isinstance(why, str)}
        pairs = [pair for pair in found.values() if isinstance(pair, Pair)]
        refused = plan.refuse(pairs)
        pairs = [pair for pair in pairs if pair not in refused]
        refused |= experiment.refuse(pairs, plan)
        del experiment  # and its copy of all that the network holds
        pairs = [pair for pair in pairs if pair not in refused]
        error = plan.carry_out(pairs, lambda: Experiment(net, run).result) if pairs else np.inf
        if error <= _GROSS:
            report.error = error
            report.folded = {names[id(norm)]: names[id(layer)] for layer, norm in pairs}
            forget_compiled(net)
        else:
            why = f"all folded, the network raises or gives something else, by {error:.1e}"
            refused |= dict.fromkeys(pairs, why)
        left |= {pair.reader: why for pair, why in refused.items()}
    report.left = {names[id(norm)]: left[norm] for norm in norms if norm in left}
    return report


def _runner(net: nn.Cell, inputs: tuple, run: Callable[[], object] | None) -> Callable[[], object]:
    if run is None and not inputs:
        raise TypeError(
            "bn3d.fold(net, *inputs) needs inputs of the network: what may be folded is found out "
            "by running it; 'run' is for several calls"
        )
    if run is None:
        # The network may change them in place.
        return lambda: net(
            *(Tensor(x.asnumpy().copy()) if type(x) is Tensor else x for x in inputs)
        )
    if inputs or not callable(run):
        got = f"{len(inputs)} inputs as well" if inputs else f"{run!r} ({type(run).__name__})"
        raise TypeError(f"'run' must be a function that takes nothing, without inputs, got {got}")
    return run


def _several_processes() -> str | None:
    try:
        alone = groups.find(None) is None
    except RuntimeError:
        alone = False
    return None if alone else "this is one of several processes: fold in one that is alone"


class _Plan:
    """A pair becomes its first layer with other weights, and the identity."""

    def __init__(self, every: Iterable[nn.Cell], result: object):
        self._every, self._wanted = every, list(arrays(result))
        if not self._wanted:
            raise ValueError(f"'run' must return what the network gives, got {result!r}")
        self._weights: dict[Pair, Weights] = {}
        self._unknown: dict[Pair, Weights] = {}

    def refuse(self, pairs: list[Pair]) -> dict[Pair, str]:
        """Which pairs cannot be folded, whoever reads what is between, and why."""
        if not all(np.isfinite(_numbers(each)).all() for each in self._wanted):
            why = "the network gives values that are not finite, in which decoys would not show"
            return dict.fromkeys(pairs, why)
        uses = Counter(id(p) for cell in self._every for p in own_parameters(cell).values())
        refused = {}
        for pair in pairs:
            if any(has_forward_hooks(cell) for each in pair for _, cell in cells(each)):
                refused[pair] = "it or the layer before it has hooks"
            elif any(uses[id(p)] > 1 for p in _parameters(pair.writer)):
                refused[pair] = "the layer before it shares its weight or bias with another"
        return refused

    def disguise(self, pair: Pair) -> Callable[[], None]:
        """See `Plan`."""
        if pair not in self._unknown:
            self._unknown[pair] = nan_weights(pair.writer)
        return _replace(pair, self._unknown[pair])

    def trial(self, pair: Pair, args: tuple, kwargs: dict, wanted: Any) -> str | None:
        """See `Plan`: whether the folded layer gives what the two gave."""
        inner = [cell for each in pair for _, cell in cells(each)]
        if is_recording() and any(has_any(cell) or cell.has_bprop for cell in inner):
            return "in a gradient, it or the layer before it has backward hooks or a bprop"
        try:
            if pair not in self._weights:
                self._weights[pair] = folded_weights(*pair)
        except ValueError as error:
            return str(error)
        undo = _replace(pair, self._weights[pair])
        try:
            got = pair.writer(*args, **kwargs)
        except Exception as error:
            return f"with it folded in, the layer before it raises {type(error).__name__}"
        finally:
            undo()
        if not isinstance(wanted, Tensor) or (got.dtype, got.size) != (wanted.dtype, wanted.size):
            return f"the layer before it gives {got.size} values of {got.dtype}"
        tolerance = _TOLERANCE[got.dtype]
        bias = self._weights[pair].bias
        got, wanted, bias = (_numbers(each.asnumpy()).ravel() for each in (got, wanted, bias))
        off, size = np.abs(got - wanted).max(), np.abs(wanted).max() + np.abs(bias).max()
        if off <= tolerance * size:
            return None
        return f"with it folded in, the layer before it gives something else, by {off / size:.1e}"

    def carry_out(self, pairs: list[Pair], run: Callable[[], object]) -> float:
        """Fold the pairs; gives the error. If that is gross, they are put back."""
        with ExitStack() as undo:
            for pair in pairs:
                undo.callback(_replace(pair, self._weights[pair]))
            try:
                error = _difference(list(arrays(run())), self._wanted)
            except Exception:
                return np.inf
            if error <= _GROSS:
                undo.pop_all()
            return error


def _parameters(producer: nn.Cell) -> list[Parameter]:
    return [p for p in (producer.weight, producer.bias) if p is not None]


def _replace(pair: Pair, weights: Weights) -> Callable[[], None]:
    """Give the first layer of a pair these weights, and take the other away; returns what
    undoes it.
    """
    producer, norm = pair
    with ExitStack() as undo:
        undo.callback(restorer(producer, norm))
        for parameter in _parameters(producer):
            undo.callback(parameter.set_data, Tensor(parameter))  # with the same memory
        undo.callback(setattr, norm, "__class__", type(norm))
        producer.weight.set_data(weights.weight)
        if producer.bias is None:
            _add_bias(producer, weights.bias)
        else:
            producer.bias.set_data(weights.bias)
        if hasattr(norm, "_bn3d_forward_training"):
            detach(norm)
        remove_all(norm)
        vars(norm).pop("construct", None)
        norm.__class__ = Folded
        return undo.pop_all().close


def _add_bias(producer: nn.Cell, bias: Tensor) -> None:
    weight = producer.weight
    name = f"{weight.name.removesuffix('weight')}bias"
    producer.bias = Parameter(bias, name=name, requires_grad=weight.requires_grad)
    if hasattr(producer, "has_bias"):
        producer.has_bias = True
    if isinstance(producer, nn.Dense):
        producer.bias_add = ops.BiasAdd()


def _difference(got: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    """The largest, as a part of the largest value; of whole numbers the part that differs."""
    if [(a.shape, a.dtype) for a in got] != [(a.shape, a.dtype) for a in wanted]:
        return np.inf
    found = [0.0]
    for a, b in zip(got, wanted, strict=True):
        if b.dtype.kind in "biu":
            found.append(np.mean(a != b) if b.size else 0.0)
        elif b.size:
            largest = np.abs(_numbers(b)).max() or 1
            found.append(np.abs(_numbers(a) - _numbers(b)).max() / largest)
    return float(np.max(found))


def _numbers(array: np.ndarray) -> np.ndarray:
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
