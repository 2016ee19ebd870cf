"""Who reads what a cell gives? Found out by running the network, not by reading its source.

A first run notes what every cell gets, gives and keeps. In further ones, what some cells give is
replaced by decoys, and the one reader that is known gets the truth all the same. If every cell
gets, gives and keeps what it did before, bit for bit, then nobody else reads it: for the inputs
of this run, and as far as the network's own cells and their state show it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from bn3d.cells import cells
from bn3d.networks.snapshot import Snapshot
from bn3d.networks.values import decoy, digest, fingerprint
from bn3d.networks.watching import Observer, has_hooks, watched

__all__ = ["Call", "Experiment", "Pair", "run_alone"]

_FLOATS = (ms.float16, ms.bfloat16, ms.float32, ms.float64)


class Pair(NamedTuple):
    """A cell, and the one that takes what it gives, alone."""

    writer: nn.Cell
    reader: nn.Cell


@dataclass(eq=False)
class Call:
    """What went through a pair once: what the writer got and gave, and what the reader gave."""

    args: tuple
    kwargs: dict
    between: Tensor
    output: object = None


# Gives a pair the look that it is to have, with NaN for the values; returns what undoes it.
Disguise = Callable[[Pair], Callable[[], None]]
# Says after each call of a pair why it may not become what it is to be, or None.
Trial = Callable[[Pair, Call], str | None]


class Experiment:
    """The pairs of a network.

    Args:
        net: the network.
        run: calls it, once or more often, and returns what it gives.
        writers, readers: classes of the cells to pair.

    Attributes:
        result: what `run` returned.
        found: by the id of each reader its pair, or why there is none.

    What `run` raises is raised. The network is as it was after each run, also then.
    """

    def __init__(
        self,
        net: nn.Cell,
        run: Callable[[], object],
        writers: tuple[type, ...],
        readers: tuple[type, ...],
    ):
        self._names = {id(cell): name for name, cell in cells(net)}
        self._cells = [cell for _, cell in cells(net)]
        self._run = run
        self._before = Snapshot(net)
        first = _Recording(self.name, writers, readers)
        self.result = self._watched_run(first)
        self._events = first.events
        # What these see is seen by others as well: a decoy must not come so far.
        self._in_public = {id(cell) for cell in self._cells if cell is net or has_hooks(cell)}
        self.found = {
            id(cell): first.pair_of(cell) for cell in self._cells if isinstance(cell, readers)
        }

    def name(self, cell: nn.Cell) -> str:
        """The name of a cell in the network, in quotation marks."""
        return repr(self._names.get(id(cell), "")) if self._names.get(id(cell)) else "the network"

    def refuse(self, pairs: list[Pair], disguise: Disguise, trial: Trial) -> dict[Pair, str]:
        """Which of these pairs do not hold, and why: others read what the writer gives, or
        the trial speaks against it.
        """
        pairs, refused, controlled = list(pairs), {}, False
        tried: dict[tuple[Pair, int], str | None] = {}

        def noticed(some: list[Pair]) -> _Decoys | None:
            decoys = _Decoys(self.name, self._events, self._in_public, some, disguise, trial, tried)
            try:
                self._watched_run(decoys)
            except _StoppedError:
                pass
            except Exception as error:
                decoys.noticed = decoys.noticed or f"whether it raises {type(error).__name__}"
            return decoys if decoys.noticed else None

        while pairs and (seen := noticed(pairs)):
            if not controlled and (control := noticed([])):
                reason = f"the network does not give the same twice, see {control.noticed}"
                return refused | dict.fromkeys(pairs, reason)
            controlled = True
            guilty, seen = _blame(pairs, seen, noticed)
            name = self.name(guilty.writer)
            refused[guilty] = f"{name} is read elsewhere: a decoy changes {seen.noticed}"
            pairs.remove(guilty)
        return {pair: why for (pair, _), why in tried.items() if why} | refused

    def _watched_run(self, observer: _Recording | _Decoys) -> object:
        try:
            with watched(self._cells, observer):
                try:
                    observer.start()
                    result = self._run()
                    seen = fingerprint(result)
                finally:
                    observer.stop()
            observer.event("what the run gives", seen)
            changes = self._before.changes()
            for place in sorted(changes):
                observer.event(f"what {place!r} keeps", changes[place])
            observer.event("what the network keeps", len(changes))
            return result
        finally:
            self._before.restore()


def run_alone(net: nn.Cell, run: Callable[[], object]) -> object:
    """What `run` gives, with the network in PyNative mode and afterwards as it was."""
    before = Snapshot(net)
    try:
        with watched([cell for _, cell in cells(net)], Observer()):
            return run()
    finally:
        before.restore()


def _blame(
    pairs: list[Pair], seen: _Decoys, noticed: Callable[[list[Pair]], _Decoys | None]
) -> tuple[Pair, _Decoys]:
    """A pair whose decoy is noticed, mostly the last one that gave one; and the run that
    noticed it.
    """
    last = seen.fired[-1:]
    if last and (alone := noticed(last)):
        return last[0], alone
    while len(pairs) > 1:
        half = len(pairs) // 2
        first, seen = pairs[:half], noticed(pairs[:half]) or seen
        pairs = first if seen.pairs == first else pairs[half:]
    return pairs[0], noticed(pairs) or seen


class _Recording:
    """What happens in the first run."""

    def __init__(self, name: Callable[[nn.Cell], str], writers: tuple, readers: tuple):
        self.events: list[tuple[str, Hashable]] = []
        self._name = name
        self._writers, self._readers = writers, readers
        self._given: dict[bytes, list[_Given]] = defaultdict(list)
        self._calls: Counter[int] = Counter()
        self._sources: dict[int, list[nn.Cell | None]] = defaultdict(list)

    def start(self) -> None:
        """Nothing is changed."""

    stop = start

    def event(self, what: str, value: Hashable) -> None:
        self.events.append((what, value))

    def gets(self, cell: nn.Cell, args: tuple, kwargs: dict) -> None:
        self.event(f"what {self._name(cell)} gets", fingerprint((args, kwargs)))
        if isinstance(cell, self._readers):
            tensor = _only_tensor(args, kwargs)
            self._sources[id(cell)].append(None if tensor is None else self._source_of(tensor))

    def gives(self, cell: nn.Cell, args: tuple, kwargs: dict, output: object) -> None:
        self.event(f"what {self._name(cell)} gives", fingerprint(output))
        if isinstance(cell, self._writers):
            self._calls[id(cell)] += 1
            if isinstance(output, Tensor) and output.dtype in _FLOATS and output.size:
                self._given[digest(output)].append(_Given(cell, id(output)))

    def _source_of(self, tensor: Tensor) -> nn.Cell | None:
        given = self._given.get(digest(tensor))
        if not given:
            return None
        # Of several that gave the same: the one not taken yet, with this object, the latest.
        best = max(given[::-1], key=lambda each: (not each.taken, each.object_id == id(tensor)))
        best.taken = True
        return best.writer

    def pair_of(self, reader: nn.Cell) -> Pair | str:
        sources = self._sources.get(id(reader))
        if not sources:
            return "it does not run on these inputs"
        if None in sources:
            kinds = " or ".join(dict.fromkeys(kind.__name__ for kind in self._writers))
            return f"what it gets is not what a {kinds} gives"
        if len(set(map(id, sources))) > 1:
            names = ", ".join(dict.fromkeys(self._name(cell) for cell in sources))
            return f"several layers give it what it gets: {names}"
        writer = sources[0]
        taken = [each is writer for others in self._sources.values() for each in others]
        if sum(taken) != len(sources):
            return f"{self._name(writer)} is read elsewhere: by another of these layers"
        if self._calls[id(writer)] != len(sources):
            return (
                f"{self._name(writer)} is read elsewhere: not each of its calls is for this layer"
            )
        return Pair(writer, reader)


@dataclass(eq=False)
class _Given:
    """An output of a writer."""

    writer: nn.Cell
    object_id: int
    taken: bool = False


class _StoppedError(BaseException):
    """Ends a run in which a decoy was noticed; no `except Exception` of a network takes it."""


class _Decoys:
    """A run with decoys.

    Attributes:
        pairs: that give decoys.
        fired: those that have given one, the last one last.
        noticed: what is another than in the first run, None as long as nothing is.
    """

    def __init__(self, name, events, in_public, pairs, disguise, trial, tried):
        self.pairs: list[Pair] = pairs
        self.fired: list[Pair] = []
        self.noticed: str | None = None
        self._name, self._events, self._in_public = name, iter(events), in_public
        self._disguise, self._trial, self._tried = disguise, trial, tried
        self._by_writer = {id(pair.writer): pair for pair in pairs}
        self._by_reader = {id(pair.reader): pair for pair in pairs}
        self._undo: dict[Pair, Callable[[], None]] = {}
        self._same: dict[bytes, bytes] = {}  # digests of decoys, and of the truth
        self._waiting: dict[tuple[Pair, bytes], list[Call]] = defaultdict(list)
        self._running: dict[Pair, Call] = {}
        self._calls: Counter[Pair] = Counter()
        self._trying = False
        self._noise = np.random.default_rng(0)

    def start(self) -> None:
        for pair in self.pairs:
            self._undo[pair] = self._disguise(pair)

    def stop(self) -> None:
        for pair in list(self._undo):
            self._show(pair)

    def _show(self, pair: Pair) -> None:
        if undo := self._undo.pop(pair, None):
            undo()

    def event(self, what: str, value: Hashable) -> None:
        if self.noticed is None and next(self._events, None) != (what, value):
            self.noticed = what
        if self.noticed is not None:
            raise _StoppedError

    def gets(self, cell: nn.Cell, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        if self._trying:
            return None
        value = fingerprint((args, kwargs), self._same_for(cell))
        self.event(f"what {self._name(cell)} gets", value)
        if pair := self._by_writer.get(id(cell)):
            self._show(pair)
        elif pair := self._by_reader.get(id(cell)):
            got = _only_tensor(args, kwargs)
            waiting = self._waiting[pair, digest(got)]
            if not waiting:
                self.event(f"what {self._name(cell)} gets", "no decoy of its writer")
            self._running[pair] = call = waiting.pop()
            self._show(pair)
            truth = call.between
            if truth.shape != got.shape:  # not by an operator: the reader's precision is set
                truth = Tensor(truth.asnumpy().reshape(got.shape))
            return (
                tuple(truth if each is got else each for each in args),
                {key: truth if each is got else each for key, each in kwargs.items()},
            )
        return None

    def gives(self, cell: nn.Cell, args: tuple, kwargs: dict, output: object) -> Tensor | None:
        if self._trying:
            return None
        self.event(f"what {self._name(cell)} gives", fingerprint(output, self._same_for(cell)))
        if pair := self._by_writer.get(id(cell)):
            self._undo[pair] = self._disguise(pair)
            self.fired.append(pair)
            fake = decoy(output, self._noise)
            self._same[digest(fake)] = digest(output)
            self._waiting[pair, digest(fake)].append(Call(args, kwargs, output))
            return fake
        if pair := self._by_reader.get(id(cell)):
            call = self._running.pop(pair)
            call.output = output
            self._try(pair, call)
            self._undo[pair] = self._disguise(pair)
        return None

    def _same_for(self, cell: nn.Cell) -> dict[bytes, bytes]:
        return {} if id(cell) in self._in_public else self._same

    def _try(self, pair: Pair, call: Call) -> None:
        self._calls[pair] += 1
        key = pair, self._calls[pair]
        if key not in self._tried:
            self._trying = True
            try:
                self._tried[key] = self._trial(pair, call)
            finally:
                self._trying = False


def _only_tensor(args: tuple, kwargs: dict) -> Tensor | None:
    """The one tensor among the arguments of a call, None where there are others."""
    found = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
    return found[0] if len(found) == 1 else None
