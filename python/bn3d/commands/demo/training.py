"""The same network from the same weights on the same batches: stock norm layers, and bn3d's.

Two more networks give these two a scale. The control is the stock one with its first weights
one rounding off: that is how far rounding alone drives two runs apart. The baseline has no norm
layers: what a step takes beyond the baseline's is the cost of the norm layers.

All take turns step by step in an order that rotates, so that whatever else the machine does slows
them alike: what counts is the difference of two runs in the same step.
"""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import mindspore as ms
import numpy as np
from mindspore import nn

import bn3d
from bn3d.commands.bench.timing import other_load
from bn3d.commands.demo.unet import UNet
from bn3d.commands.demo.volume import TISSUES, Brain, patches
from bn3d.commands.paired import Spread, spread
from bn3d.commands.progress import Progress, progress

# oneDNN's 3-D convolutions behind MindSpore's CPU backend spread over the cores only with two
# or more patches a batch and planes of at most 512 voxels; others cost up to ten times as much.
BATCH = 4
PATCH = (32, 20, 20)
WINDOW = (32, 24, 24)  # of the validation; inference also has room for 24 x 24 planes
OVERLAP = 8  # voxels that neighbouring windows share
LEARNING_RATE = 0.02  # falls to 0 linearly
BASELINE_EVERY = 2  # steps from one turn of the baseline to its next
WARM_UP = 4  # first steps left out of the times: compilation, MindSpore's choice of threads


@dataclass
class Run:
    """A network and what was measured of it: seconds and loss of every step.

    A step it sat out is NaN, so that the same index is the same step in every run.
    """

    network: nn.Cell
    step: nn.Cell
    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    prediction: np.ndarray | None = None
    dice: dict[str, float] = field(default_factory=dict)  # by tissue, once validated

    def train(self, x: ms.Tensor, y: ms.Tensor) -> None:
        start = time.perf_counter()
        loss = float(self.step(x, y).asnumpy())  # waits for the whole graph
        self.seconds.append(time.perf_counter() - start)
        self.losses.append(loss)

    def sit_out(self) -> None:
        self.seconds.append(np.nan)
        self.losses.append(np.nan)


@dataclass
class Result:
    stock: Run
    swapped: Run
    control: Run
    baseline: Run
    replaced: int
    stopped: bool = False
    quick: bool = False
    other_load: float = np.nan  # cores that other processes kept busy meanwhile

    @property
    def steps(self) -> int:
        return len(self.swapped.losses)

    def step(self, run: Run) -> Spread:
        return spread(run.seconds, WARM_UP)

    def norm_layers(self, run: Run) -> Spread:
        """A step of this run less the same step of the run without norm layers."""
        return spread(np.subtract(run.seconds, self.baseline.seconds), WARM_UP)

    def saved(self, run: Run) -> Spread:
        """A step of the stock run less the same step of this one."""
        return spread(np.subtract(self.stock.seconds, run.seconds), WARM_UP)

    @property
    def distinguishable(self) -> bool:
        """Whether bn3d's steps differ from stock's by more than a second stock run's do."""
        return not self.saved(self.swapped).overlaps(self.saved(self.control))

    def loss_differences(self, run: Run) -> np.ndarray:
        """From the stock run, a step."""
        return np.abs(np.subtract(self.stock.losses, run.losses))

    def weight_difference(self, run: Run) -> float:
        """Largest difference of a trained weight from the stock run's."""
        pairs = zip(
            self.stock.network.trainable_params(), run.network.trainable_params(), strict=True
        )
        return max(float(np.abs(a.asnumpy() - b.asnumpy()).max()) for a, b in pairs)


def race(brain: Brain, steps: int, seed: int) -> Result:
    """Train all for `steps` steps, then segment the held-out slab with each.

    Graph mode: in PyNative mode a step takes more than twice as long.
    """
    ms.set_context(mode=ms.GRAPH_MODE)
    stock = _run(seed, steps, nn.BatchNorm3d)
    swapped = _run(seed, steps, nn.BatchNorm3d)
    report = bn3d.swap(swapped.network)
    control = _run(seed, steps, nn.BatchNorm3d)
    _round_weights_otherwise(control.network, seed)
    baseline = _run(seed, steps, lambda channels: nn.Identity())
    result = Result(stock, swapped, control, baseline, len(report.changed))

    batches = patches(brain, PATCH, BATCH, seed)
    load = other_load()
    with _stop_flag() as stop, progress("demo", steps + 3) as shown:
        shown.say("compiling four networks")
        for number, (x, y) in enumerate(itertools.islice(batches, steps)):
            if stop:
                break
            turns = [stock, swapped, control]
            if number % BASELINE_EVERY == 0:
                turns.append(baseline)
            else:
                baseline.sit_out()
            first = number // BASELINE_EVERY % len(turns)
            for run in (*turns[first:], *turns[:first]):
                run.train(ms.Tensor(x), ms.Tensor(y))
            shown.advance(f"training, loss {stock.losses[-1]:.3f} | {swapped.losses[-1]:.3f}")
        result.other_load = load()
        for name, run in (("stock", stock), ("bn3d", swapped), ("control", control)):
            _validate(run, brain, f"validating {name}", shown, stop)
            shown.advance()
        result.stopped = bool(stop)
    return result


def _run(seed: int, steps: int, norm: Callable[[int], nn.Cell]) -> Run:
    ms.set_seed(seed)
    network = UNet(len(TISSUES), norm=norm)
    rates = [LEARNING_RATE * (1 - done / steps) for done in range(steps)]
    optimizer = nn.Momentum(network.trainable_params(), rates, momentum=0.9)
    step = nn.TrainOneStepCell(nn.WithLossCell(network, nn.CrossEntropyLoss()), optimizer)
    return Run(network, step.set_train())


def _round_weights_otherwise(network: nn.Cell, seed: int) -> None:
    """Every weight goes to a neighbouring float32."""
    rng = np.random.default_rng(seed)
    for weight in network.trainable_params():
        value = weight.asnumpy()
        towards = rng.choice([-np.inf, np.inf], value.shape).astype(np.float32)
        weight.set_data(ms.Tensor(np.nextafter(value, towards)))


def _validate(run: Run, brain: Brain, name: str, shown: Progress, stop: list) -> None:
    if stop or not run.losses:
        return
    t1, labels = brain.slab()
    corners = list(itertools.product(*map(_window_starts, t1.shape, WINDOW)))
    shown.say(name)
    run.network.set_train(False)
    logits = np.zeros((len(TISSUES), *t1.shape), np.float32)
    for first in range(0, len(corners), BATCH):
        if stop:
            return
        blocks = [
            tuple(slice(at, at + n) for at, n in zip(corner, WINDOW, strict=True))
            for corner in corners[first : first + BATCH]
        ]
        full = blocks + blocks[-1:] * (BATCH - len(blocks))  # one shape, one compiled graph
        windows = ms.Tensor(np.stack([t1[block][None] for block in full]))
        for block, part in zip(blocks, run.network(windows).asnumpy(), strict=False):
            place = (slice(None), *block)
            logits[place] += part  # where windows overlap, their sum decides
        shown.say(f"{name}, {min(first + BATCH, len(corners))} of {len(corners)} windows")
    run.prediction = logits.argmax(axis=0)
    run.dice = {tissue: _dice(run.prediction, labels, i) for i, tissue in enumerate(TISSUES)}


def _window_starts(length: int, window: int) -> list[int]:
    return [*range(0, length - window, window - OVERLAP), length - window]


def _dice(prediction: np.ndarray, truth: np.ndarray, label: int) -> float:
    found, wanted = prediction == label, truth == label
    return float(2 * (found & wanted).sum() / (found.sum() + wanted.sum()))


@contextmanager
def _stop_flag() -> Iterator[list[int]]:
    """A list that stops being empty at Ctrl-C, so that no step is cut in two.

    A second Ctrl-C interrupts at once. While MindSpore compiles or runs a graph, it answers
    Ctrl-C by sending its own process SIGTERM: that one means the same here.
    """
    stop: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop_later(number: int, _frame: object) -> None:
        stop.append(number)
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, stop_later)
    try:
        yield stop
    finally:
        restore()
