"""`fold` puts batch norm into the layer before it, for inference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from bn3d import new_style
from bn3d import process_groups as groups
from bn3d.cell_state import detach
from bn3d.cells import cells, check_net, forget_compiled
from bn3d.networks.experiment import Call, Experiment, Pair, run_alone
from bn3d.networks.fold_arithmetic import (
    PRODUCERS,
    Weights,
    folded_weights,
    inner_layer,
    nan_weights,
)
from bn3d.networks.one_way import OneWay
from bn3d.networks.values import arrays
from bn3d.networks.watching import has_hooks

__all__ = ["FoldReport", "fold"]

# How far a folded layer may be from the two, as a part of the largest value: rounding.
_TOLERANCE = {"float64": 1e-9, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
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

    def construct(self, x):
        return x


def fold(net: nn.Cell, *inputs: object, run: Callable[[], object] | None = None) -> FoldReport:
    """Fold every BatchNorm3d of a network into the Conv3d, Conv3dTranspose, Dense or
    mint.nn.Linear before it.

    In place, for inference, and for good: `copy.deepcopy(net)` first to train on. The weights
    of the layer before are scaled, it gets a bias, and the batch norm becomes the identity
    without parameters. The output stays the same within rounding. `mindspore.export` makes
    files of the result that load without bn3d.

    Whether something else reads the output of the layer before, or the weights, is found out by
    running the network, at least three times, on these inputs: with decoys in place of what is
    read, nothing else may change by a single bit. All is as it was after each run, and if one
    raises.

    So it is proven for these inputs. Not seen are ways through the code that they do not take
    (`FoldReport.one_way` lists the conditions), masks inside operators that let nothing pass
    for them, and readers outside the network: other networks with its layers, global variables,
    files. Give inputs like those to come, and with `run` all ways that matter.

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
    """
    check_net(net)
    run = _runner(net, inputs, run)
    names = {id(cell): name for name, cell in cells(net)}
    norms = {name: cell for name, cell in cells(net) if isinstance(cell, new_style.STOCK)}
    several = _several_processes()
    left = {name: why for name, norm in norms.items() if (why := several or _reason(norm))}
    if len(left) == len(norms):
        return FoldReport(left=left)
    with OneWay() as ways:
        experiment = Experiment(net, run, PRODUCERS, new_style.STOCK)
    wanted = list(arrays(experiment.result))
    if not wanted:
        raise ValueError(f"'run' must return what the network gives, got {experiment.result!r}")
    pairs: dict[str, Pair] = {}
    against = _ReasonsAgainst(net, wanted)
    for name, norm in norms.items():
        if name not in left:
            found = experiment.found[id(norm)]
            why = found if isinstance(found, str) else against(found)
            (left if why else pairs)[name] = why or found
    trials = _Trials()
    refused = experiment.refuse(list(pairs.values()), trials.disguise, trials.compare)
    left |= {name: refused.pop(pair) for name, pair in pairs.items() if pair in refused}
    del experiment  # and the copies of all that the network holds
    pairs = {name: pair for name, pair in pairs.items() if name not in left}
    error, why = _fold_all(
        net, run, [(pair, trials.weights[pair]) for pair in pairs.values()], wanted
    )
    if why:
        return FoldReport({}, left | dict.fromkeys(pairs, why), None, ways.lines())
    if pairs:
        forget_compiled(net)
    folded = {name: names[id(pair.writer)] for name, pair in pairs.items()}
    return FoldReport(folded, left, error, ways.lines())


def _runner(net: nn.Cell, inputs: tuple, run: Callable[[], object] | None) -> Callable[[], object]:
    if run is None and not inputs:
        raise TypeError(
            "bn3d.fold(net, *inputs) needs inputs of the network: what may be folded is found out "
            "by running it, not by reading its source; see 'run' for several calls"
        )
    if run is None:
        return lambda: net(*map(_copy, inputs))  # an input may be changed in place
    if inputs or not callable(run):
        raise TypeError(
            f"'run' must be a function without arguments, instead of inputs, got {run!r} "
            f"({type(run).__name__}) and {len(inputs)} inputs"
        )
    return run


def _copy(value: object) -> object:
    return Tensor(value.asnumpy().copy()) if type(value) is Tensor else value


def _several_processes() -> str | None:
    try:
        alone = groups.find(None) is None
    except RuntimeError:
        alone = False
    return None if alone else "this is one of several processes: fold in one that is alone"


def _reason(norm: nn.Cell) -> str | None:
    """Why a batch norm layer cannot be folded, whatever feeds it."""
    inner = inner_layer(norm)
    by_batch = getattr(inner, "use_batch_statistics", None)
    if inner is norm and getattr(norm, "running_mean", None) is None:
        by_batch = True
    if by_batch is True:
        return "it normalises by the batch always (use_batch_statistics=True)"
    if by_batch is None and inner.training:
        return "it is in training mode: net.set_train(False) first"
    return None


class _ReasonsAgainst:
    """Why a pair cannot be folded, whoever reads what is between."""

    def __init__(self, net: nn.Cell, given: list[np.ndarray]):
        self._uses = Counter(id(p) for _, cell in cells(net) for p in cell._params.values())
        self._finite = all(np.isfinite(each).all() for each in map(_numbers, given))

    def __call__(self, pair: Pair) -> str | None:
        producer = pair.writer
        if not self._finite:
            return "the network gives values that are not finite, so decoys would not show"
        if any(has_hooks(cell) for each in pair for _, cell in cells(each)):
            return "it or the layer before it has hooks"
        own = [p for p in (producer.weight, producer.bias) if p is not None]
        if any(self._uses[id(p)] > 1 for p in own):
            return "the layer before it shares its weight or bias with another"
        return None


class _Trials:
    """The weights of each pair, tried on what went through it."""

    def __init__(self):
        self.weights: dict[Pair, Weights] = {}
        self._unknown: dict[Pair, Weights] = {}

    def disguise(self, pair: Pair) -> Callable[[], None]:
        """Let a pair look as if it were folded, with NaN for weights."""
        if pair not in self._unknown:
            self._unknown[pair] = nan_weights(pair.writer)
        return _replace(pair, self._unknown[pair])

    def compare(self, pair: Pair, call: Call) -> str | None:
        """Why the folded layer does not give what the two gave."""
        try:
            if pair not in self.weights:
                self.weights[pair] = folded_weights(*pair)
        except ValueError as error:
            return str(error)
        weights, wanted = self.weights[pair], call.output
        undo = _replace(pair, weights)
        try:
            got = pair.writer(*call.args, **call.kwargs)
        except Exception as error:
            return f"with it folded in, the layer before it raises {type(error).__name__}"
        finally:
            undo()
        if getattr(wanted, "dtype", None) != got.dtype:
            return f"the layer before it computes in another precision, {got.dtype}"
        if wanted.size != got.size:
            return f"it gives {wanted.shape}, the layer before it {got.shape}"
        got, wanted, bias = (
            _numbers(each.asnumpy()).ravel() for each in (got, wanted, weights.bias)
        )
        error = np.abs(got - wanted).max() / (np.abs(wanted).max() + np.abs(bias).max())
        if not error <= _TOLERANCE[str(call.output.asnumpy().dtype)]:
            return f"with it folded in, the layer before it gives something else, by {error:.1e}"
        return None


def _fold_all(
    net: nn.Cell,
    run: Callable[[], object],
    folds: list[tuple[Pair, Weights]],
    wanted: list[np.ndarray],
) -> tuple[float | None, str | None]:
    """Fold the pairs and measure the error; or undo all, and say why."""
    if not folds:
        return None, None
    undo: list[Callable[[], None]] = []
    why = "it was interrupted"
    try:
        undo += [_replace(*each) for each in folds]
        error = _difference(list(arrays(run_alone(net, run))), wanted)
        why = (
            None if error <= _GROSS else f"folded, the network gives something else, by {error:.1e}"
        )
    except Exception as raised:
        why = f"folded, the network raises {type(raised).__name__}"
    finally:
        for each in undo if why else ():
            each()
    return (None, why) if why else (error, None)


def _replace(pair: Pair, weights: Weights) -> Callable[[], None]:
    """Give a pair these weights, in its first layer; returns what undoes it."""
    producer, norm = pair
    kind = type(norm)
    held = (producer._params, producer._primitives, norm._cells, norm._params)
    before = [(each, list(each.items())) for each in (vars(producer), vars(norm), *held)]
    values = [(p, Tensor(p)) for p in (producer.weight, producer.bias) if p is not None]

    def undo():
        norm.__class__ = kind
        for parameter, value in values:
            parameter.set_data(value)
        for attributes, items in before:
            attributes.clear()
            attributes.update(items)

    try:
        producer.weight.set_data(weights.weight)
        if producer.bias is None:
            _add_bias(producer, weights.bias)
        else:
            producer.bias.set_data(weights.bias)
        if hasattr(norm, "_forward_training"):
            detach(norm)
        norm._cells.clear()
        norm._params.clear()
        norm._recompute_cell = None  # it was among the cells
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
