"""Who reads what a cell gives? Found out by running the network, not by reading its source.

A first run notes what every cell gets, gives and keeps. In further ones, what some cells give is
replaced by decoys, and the one reader that is known gets the truth all the same. If every cell
gets, gives and keeps what it did before, bit for bit, then nobody else reads it: for the inputs
of this run, and as far as the cells and what they keep show it.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol

import numpy as np
from mindspore import Tensor, nn, ops

from bn3d.mindspore_private.cells import use_twins
from bn3d.mindspore_private.hooks import has_forward_hooks
from bn3d.mindspore_private.precision import unmixed_call
from bn3d.networks.cells import cells
from bn3d.networks.snapshot import Snapshot
from bn3d.networks.values import decoy, digest, fingerprint
from bn3d.networks.watching import Observer, watched

__all__ = ["Experiment", "Pair", "Plan"]


class Pair(NamedTuple):
    """A cell, and the one that takes what it gives."""

    writer: nn.Cell
    reader: nn.Cell


class Plan(Protocol):
    """What pairs are to become."""

    def disguise(self, pair: Pair) -> Callable[[], None]:
        """Let a pair look as it is to, with NaN for its values; returns what undoes it."""

    def trial(self, pair: Pair, args: tuple, kwargs: dict, output: Any) -> str | None:
        """Why a pair may not become what is planned, after one of its calls: what the writer got,
        and the reader gave.
        """


class Experiment:
    """The pairs of a network.

    Args:
        net: the network. It is as it was after each run, also if that raises.
        run: calls it, once or more often, and returns what it gives.
        writers, readers: classes of the cells to pair.

    Attributes:
        result: what `run` returned.
        found: for each reader its pair, or why there is none.
    """

    def __init__(
        self,
        net: nn.Cell,
        run: Callable[[], object],
        writers: tuple[type, ...] = (),
        readers: tuple[type, ...] = (),
    ):
        found = list(cells(net))
        self.names = {id(cell): repr(name) if name else "the network" for name, cell in found}
        self.cells = [cell for _, cell in found]
        # What these see is seen by others as well: a decoy must not come so far.
        self.in_public = {id(cell) for cell in self.cells if cell is net or has_forward_hooks(cell)}
        self._run, self._before = run, Snapshot(net)
        first = _Recording(self, writers, readers)
        self.result = self._watched_run(first)
        self.events = first.events
        self.found = {cell: first.pair_of(cell) for cell in self.cells if isinstance(cell, readers)}

    def refuse(self, pairs: list[Pair], plan: Plan) -> dict[Pair, str]:
        """Which of these pairs do not hold, and why: others read what the writer gives, or the
        trial speaks against it.
        """
        tried: dict[Pair, str | None] = {}

        def noticed(some: list[Pair]) -> str | None:
            decoys = _Decoys(self, some, plan, tried)
            try:
                self._watched_run(decoys)
            except _StoppedError:
                pass
            except Exception as error:
                return decoys.noticed or f"whether it raises {type(error).__name__}"
            return decoys.noticed

        def guilty(some: list[Pair], seen: str | None) -> dict[Pair, str]:
            """By halves, those whose decoys are noticed."""
            if seen is None:
                return {}
            if len(some) == 1:
                writer = self.names[id(some[0].writer)]
                return {some[0]: f"{writer} is read elsewhere: a decoy changes {seen}"}
            halves = some[: len(some) // 2], some[len(some) // 2 :]
            found = (guilty(half, noticed(half)).items() for half in halves)
            return dict(itertools.chain(*found))

        refused: dict[Pair, str] = {}
        while rest := [pair for pair in pairs if pair not in refused]:
            seen = noticed(rest)
            if seen is None:
                break
            if not refused and (twice := noticed([])):
                why = f"the network does not give the same twice, see {twice}"
                return dict.fromkeys(pairs, why)
            together = f"decoys of this and other layers change {seen}"
            refused |= guilty(rest, seen) or dict.fromkeys(rest, together)
        return {pair: why for pair, why in tried.items() if why} | refused

    def _watched_run(self, observer: _Recording | _Decoys) -> object:
        try:
            with watched(self.cells, observer):
                result = self._run()
                seen = fingerprint(result)
            observer.event("what the run gives", seen)
            changes = self._before.changes()
            for place in sorted(changes):
                observer.event(f"what {place!r} keeps", changes[place])
            observer.event("what the network keeps", len(changes))
            return result
        finally:
            self._before.restore()


class _Recording(Observer):
    """What happens in the first run, and which reader got what a writer gave."""

    def __init__(self, experiment: Experiment, writers: tuple, readers: tuple):
        self.events: list[tuple[str, Hashable]] = []
        self._names, self._writers, self._readers = experiment.names, writers, readers
        self._given: dict[bytes, list[tuple[int, nn.Cell]]] = defaultdict(list)
        self._sources: dict[nn.Cell, list[nn.Cell | None]] = defaultdict(list)

    def event(self, what: str, value: Hashable) -> None:
        self.events.append((what, value))

    def gets(self, cell: nn.Cell, args: tuple, kwargs: dict) -> None:
        self.event(f"what {self._names[id(cell)]} gets", fingerprint((args, kwargs)))
        if isinstance(cell, self._readers):
            tensor = _only_tensor(args, kwargs)
            given = [] if tensor is None else self._given[digest(tensor)]
            same = [each for each in given if each[0] == id(tensor)] or given
            self._sources[cell].append(same[-1][1] if same else None)
            if same:
                given.remove(same[-1])

    def gives(self, cell: nn.Cell, args: tuple, kwargs: dict, output: object) -> None:
        self.event(f"what {self._names[id(cell)]} gives", fingerprint(output))
        if isinstance(cell, self._writers) and _is_usable(output):
            self._given[digest(output)].append((id(output), cell))

    def pair_of(self, reader: nn.Cell) -> Pair | str:
        sources = self._sources[reader]
        if not sources:
            return "it does not run on these inputs"
        if None in sources:
            *kinds, last = dict.fromkeys(kind.__name__ for kind in self._writers)
            any_of = f"{', '.join(kinds)} or {last}".removeprefix(" or ")
            return f"its input is not the unchanged output of a {any_of}"
        names = sorted({self._names[id(writer)] for writer in sources})
        if len(names) > 1:
            return f"several layers give what it gets: {', '.join(names)}"
        if any(sources[0] in others for others in self._sources.values() if others is not sources):
            return f"{names[0]} is read elsewhere: by another layer of this kind"
        return Pair(sources[0], reader)


class _StoppedError(BaseException):
    """Ends a run in which a decoy was noticed; no `except Exception` of a network takes it."""


class _Decoys(Observer):
    """A run with decoys, which stops when something is noticed.

    Attributes:
        noticed: what is another than in the first run, None as long as nothing is.
    """

    def __init__(self, experiment: Experiment, pairs: list[Pair], plan: Plan, tried: dict):
        self.noticed: str | None = None
        self._names, self._in_public = experiment.names, experiment.in_public
        self._expected = iter(experiment.events)
        self._plan, self._tried = plan, tried
        self._pairs = {id(cell): pair for pair in pairs for cell in pair}
        self._undo: dict[Pair, Callable[[], None]] = {}
        self._truths: dict[bytes, bytes] = {}  # digests, by that of the decoy
        self._waiting: dict[tuple[Pair, bytes], list[tuple[tuple, dict, Tensor]]] = defaultdict(
            list
        )
        self._running: dict[Pair, tuple[tuple, dict, Tensor]] = {}
        self._trying = False
        self._noise = np.random.default_rng(0)

    def start(self) -> None:
        for pair in self._pairs.values():
            self._hide(pair)

    def stop(self) -> None:
        for pair in list(self._undo):
            self._undo.pop(pair)()

    def _hide(self, pair: Pair) -> None:
        if pair not in self._undo:
            self._undo[pair] = self._plan.disguise(pair)

    def event(self, what: str, value: Hashable) -> None:
        if self.noticed is None and next(self._expected, None) != (what, value):
            self.noticed = what
        if self.noticed is not None:
            raise _StoppedError

    def _sees(self, cell: nn.Cell, what: str, value: object) -> None:
        same = {} if id(cell) in self._in_public else self._truths
        self.event(f"what {self._names[id(cell)]} {what}", fingerprint(value, same))

    def gets(self, cell: nn.Cell, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        if self._trying:
            return None
        self._sees(cell, "gets", (args, kwargs))
        pair = self._pairs.get(id(cell))
        if pair is None:
            return None
        self._undo.pop(pair)()  # while they run themselves
        # A gradient by their parameters then misses them, and the backward pass of another one
        # needs none that is disguised by then.
        self._undo[pair] = use_twins(*(inner for _, inner in cells(cell)))
        if cell is pair.writer:
            return None
        got = _only_tensor(args, kwargs)
        waiting = [] if got is None else self._waiting[pair, digest(got)]
        if got is None or not waiting:  # the same bits from elsewhere
            self.noticed = self.noticed or f"what {self._names[id(cell)]} gets"
            raise _StoppedError
        self._running[pair] = waiting.pop()
        truth = self._running[pair][-1]
        if truth.shape != got.shape:
            truth = unmixed_call(ops.reshape)(truth, got.shape)
        return (
            tuple(truth if each is got else each for each in args),
            {key: truth if each is got else each for key, each in kwargs.items()},
        )

    def gives(self, cell: nn.Cell, args: tuple, kwargs: dict, output: object) -> Tensor | None:
        if self._trying:
            return None
        self._sees(cell, "gives", output)
        pair = self._pairs.get(id(cell))
        if pair is None:
            return None
        self._undo.pop(pair)()
        fake = None
        if cell is pair.writer:
            fake = decoy(output, self._noise)
            self._truths[digest(fake)] = digest(output)
            self._waiting[pair, digest(fake)].append((args, kwargs, output))
        else:
            args, kwargs, _ = self._running.pop(pair)
            self._trying = True
            try:
                why = self._plan.trial(pair, args, kwargs, output)
            finally:
                self._trying = False
            self._tried[pair] = self._tried.get(pair) or why
        self._hide(pair)
        return fake


def _is_usable(output: object) -> bool:
    return isinstance(output, Tensor) and output.is_floating_point() and output.size > 0


def _only_tensor(args: tuple, kwargs: dict) -> Tensor | None:
    """The one tensor among the arguments of a call, None where there are others."""
    found = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
    return found[0] if len(found) == 1 else None
