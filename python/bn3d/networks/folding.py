"""`fold` puts batch norm into the layer before it, for inference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
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
from bn3d.networks.experiment import Call, Experiment, Pair
from bn3d.networks.fold_arithmetic import (
    PRODUCERS,
    Weights,
    folded_weights,
    nan_weights,
    normalises_by_batch,
)
from bn3d.networks.one_way import OneWay
from bn3d.networks.values import arrays

__all__ = ["FoldReport", "fold"]

# How far a folded layer may be from the two, as a part of the largest value: rounding. What is
# float32 may have been computed in float16, by mixed precision.
_TOLERANCE = {ms.float64: 1e-10, ms.float32: 2e-3, ms.float16: 2e-2, ms.bfloat16: 1e-1}
_GROSS = 0.1  # and a whole network, where rounding may have grown


@dataclass
class FoldReport:
    """What `fold` did. It is proven for the inputs of the call, and for no others.

    Attributes:
        folded: names of the batch norm layers that are folded, and of the layers they are in.
        left: names of the batch norm layers that were left as they are, and why.
        error: largest difference between what the network gave and gives, as a part of the
            largest value; None if nothing is folded.
        one_way: by file and function, the lines of conditions in the network's own code that
            went one way only. Nothing is known of the other way.

    Examples:
        >>> net = nn.SequentialCell(nn.ReLU(), nn.BatchNorm3d(1)).set_train(False)
        >>> list(bn3d.fold(net, ops.ones((1, 1, 8, 8, 8))).left)
        ['1']
    """

    folded: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    error: float | None = None
    one_way: dict[str, list[int]] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{len(self.folded)} folded, {len(self.left)} left as they are"]
        if self.folded:
            lines.append(f"proven for these inputs: the output differs by {self.error:.1e}")
        lines += [f"left: {name}: {reason}" for name, reason in self.left.items()]
        lines += [
            f"a condition went one way only: {place}, line {line}"
            for place, numbers in self.one_way.items()
            for line in numbers
        ]
        return "\n".join(lines)


class Folded(nn.Cell):
    """What is left of a batch norm layer that was folded: the identity."""

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
    variables, files. Give inputs like those to come, and with `run` all ways that matter.

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
    left = {id(norm): why for norm in norms if (why := several or _reason_against(norm))}
    report, folded = FoldReport(), []
    if len(left) < len(norms):
        with OneWay() as ways:
            experiment = Experiment(net, run, PRODUCERS, torch_layers.STOCK)
        report.one_way = ways.lines()
        wanted = list(arrays(experiment.result))
        if not wanted:
            raise ValueError(f"'run' must return what the network gives, got {experiment.result!r}")
        found = {norm: experiment.found[norm] for norm in map(id, norms) if norm not in left}
        left |= {norm: pair for norm, pair in found.items() if isinstance(pair, str)}
        pairs = [pair for pair in found.values() if isinstance(pair, Pair)]
        plan = _Plan(net, wanted)
        refused = plan.refuse(pairs)
        pairs = [pair for pair in pairs if pair not in refused]
        refused |= experiment.refuse(pairs, plan)
        del experiment  # and its copy of all that the network holds
        folded = [pair for pair in pairs if pair not in refused]
        if folded:
            report.error = error = plan.carry_out(folded, run)
            if not error <= _GROSS:
                why = f"all folded, the network raises or gives something else, by {error:.1e}"
                refused |= dict.fromkeys(folded, why)
                report.error, folded = None, []
        left |= {id(pair.reader): why for pair, why in refused.items()}
    report.folded = {names[id(norm)]: names[id(producer)] for producer, norm in folded}
    report.left = {names[norm]: left[norm] for norm in map(id, norms) if norm in left}
    if folded:
        forget_compiled(net)
    return report


def _runner(net: nn.Cell, inputs: tuple, run: Callable[[], object] | None) -> Callable[[], object]:
    if run is None and not inputs:
        raise TypeError(
            "bn3d.fold(net, *inputs) needs inputs of the network: what may be folded is found out "
            "by running it, no longer by reading its source; 'run' is for several calls"
        )
    if run is None:
        return lambda: net(*map(_copy, inputs))  # the network may change them in place
    if inputs or not callable(run):
        got = f"{len(inputs)} inputs as well" if inputs else f"{run!r} ({type(run).__name__})"
        raise TypeError(f"'run' must be a function that takes nothing, without inputs, got {got}")
    return run


def _copy(value: Any) -> Any:
    return Tensor(value.asnumpy().copy()) if type(value) is Tensor else value


def _several_processes() -> str | None:
    try:
        alone = groups.find(None) is None
    except RuntimeError:
        alone = False
    return None if alone else "this is one of several processes: fold in one that is alone"


def _reason_against(norm: nn.Cell) -> str | None:
    by_batch = normalises_by_batch(norm)
    if by_batch is None:
        return "it is in training mode: net.set_train(False) first"
    return "it normalises by the batch always (use_batch_statistics=True)" if by_batch else None


class _Plan:
    """A pair becomes its first layer with other weights, and the identity."""

    def __init__(self, net: nn.Cell, wanted: list[np.ndarray]):
        self._net, self._wanted = net, wanted
        self._weights: dict[Pair, Weights] = {}
        self._unknown: dict[Pair, Weights] = {}

    def refuse(self, pairs: list[Pair]) -> dict[Pair, str]:
        """Which pairs cannot be folded, whoever reads what is between, and why."""
        if not all(np.isfinite(_numbers(each)).all() for each in self._wanted):
            why = "the network gives values that are not finite, in which decoys would not show"
            return dict.fromkeys(pairs, why)
        uses = Counter(id(p) for _, cell in cells(self._net) for p in own_parameters(cell).values())
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

    def trial(self, pair: Pair, call: Call) -> str | None:
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
            got, wanted = pair.writer(*call.args, **call.kwargs), call.output
        except Exception as error:
            return f"with it folded in, the layer before it raises {type(error).__name__}"
        finally:
            undo()
        if (got.dtype, got.size) != (getattr(wanted, "dtype", None), wanted.size):
            return f"the layer before it gives {got.size} values of {got.dtype}"
        tolerance = _TOLERANCE[got.dtype]
        bias = self._weights[pair].bias
        got, wanted, bias = (_numbers(each.asnumpy()).ravel() for each in (got, wanted, bias))
        off = np.abs(got - wanted).max() / (np.abs(wanted).max() + np.abs(bias).max())
        if off <= tolerance:
            return None
        return f"with it folded in, the layer before it gives something else, by {off:.1e}"

    def carry_out(self, pairs: list[Pair], run: Callable[[], object]) -> float:
        """Fold the pairs; gives the error. Where that is gross, they are as they were."""
        error, undo = np.inf, []
        try:
            for pair in pairs:
                undo.append(_replace(pair, self._weights[pair]))
            error = _difference(list(arrays(Experiment(self._net, run).result)), self._wanted)
        except Exception:
            pass  # as gross as can be
        finally:
            if not error <= _GROSS:
                for each in undo:
                    each()
        return error


def _parameters(producer: nn.Cell) -> list[Parameter]:
    return [p for p in (producer.weight, producer.bias) if p is not None]


def _replace(pair: Pair, weights: Weights) -> Callable[[], None]:
    """Give the first layer of a pair these weights, and take the other away; returns what
    undoes it.
    """
    producer, norm = pair
    kind = type(norm)
    restore = restorer(producer, norm)
    values = [(p, Tensor(p)) for p in _parameters(producer)]  # with the same memory

    def undo():
        norm.__class__ = kind
        for parameter, value in values:
            parameter.set_data(value)
        restore()

    try:
        producer.weight.set_data(weights.weight)
        if producer.bias is None:
            _add_bias(producer, weights.bias)
        else:
            producer.bias.set_data(weights.bias)
        if hasattr(norm, "_forward_training"):
            detach(norm)
        remove_all(norm)
        vars(norm).pop("construct", None)
        norm.__class__ = Folded
    except BaseException:
        undo()
        raise
    return undo


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
