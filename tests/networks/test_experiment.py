"""Who reads what a cell gives: pairs of other kinds than fold's, decoys, halves, controls."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

import bn3d
from bn3d.networks.experiment import Experiment, Pair
from support.folding import Base, randomized, volume


class Nothing:
    """A plan that changes nothing, and is told of each call."""

    def __init__(self, against=None):
        self.calls, self.against = [], against

    def disguise(self, pair):
        return lambda: None

    def trial(self, pair, args, kwargs, output):
        self.calls.append((pair, args, kwargs, output))
        return self.against


class Activated(nn.Cell):
    """Norm and activation, `depth` times; the norms in `read` have one more reader."""

    def __init__(self, depth=1, read=()):
        super().__init__()
        self.read = read
        self.norms = nn.CellList([nn.BatchNorm3d(2) for _ in range(depth)])
        self.relus = nn.CellList([nn.ReLU() for _ in range(depth)])

    def construct(self, x):
        extra = 0
        for index, norm in enumerate(self.norms):
            y = norm(x)
            x = self.relus[index](y)
            if index in self.read:
                extra = extra + 1e-12 * y
        return x + extra


def ask(net, plan=None, run=None):
    x = volume()
    experiment = Experiment(net, run or (lambda: net(x)), (nn.BatchNorm3d,), (nn.ReLU,))
    pairs = [pair for pair in experiment.found.values() if isinstance(pair, Pair)]
    return experiment, pairs, experiment.refuse(pairs, plan or Nothing())


def test_a_norm_and_its_activation_are_a_pair():
    net, plan = randomized(Activated()), Nothing()
    _, pairs, refused = ask(net, plan)
    assert pairs == [Pair(net.norms[0], net.relus[0])]
    assert refused == {}
    [(pair, (got,), kwargs, output)] = plan.calls
    assert (pair, kwargs) == (pairs[0], {})
    np.testing.assert_array_equal(got.asnumpy(), volume().asnumpy())
    wanted = ops.relu(net.norms[0](volume()))
    np.testing.assert_array_equal(output.asnumpy(), wanted.asnumpy())


def test_who_noticed_is_named():
    net = randomized(nn.SequentialCell(Activated(read=(0,)), nn.BatchNorm3d(2)))
    _, pairs, refused = ask(net)
    assert refused[pairs[0]] == "'0.norms.0' is read elsewhere: a decoy changes what '0' gives"


@pytest.mark.parametrize("read", [(), (0,), (5,), (2, 3), (0, 4, 5), tuple(range(6))])
def test_halves_find_all_that_are_read_elsewhere_and_no_other(read):
    net = randomized(Activated(6, read))
    _, pairs, refused = ask(net)
    assert len(pairs) == 6
    assert {pairs.index(pair) for pair in refused} == set(read)


def test_decoys_that_are_noticed_together_only_are_noticed():
    class Together(Activated):
        def construct(self, x):
            first, second = self.norms[0](x), self.norms[1](2 * x)
            both = float(np.isnan(first.asnumpy()).any() and np.isnan(second.asnumpy()).any())
            return self.relus[0](first) + self.relus[1](second) + both

    _, pairs, refused = ask(randomized(Together(2)))
    assert len(pairs) == 2
    assert set(refused) == set(pairs)
    assert "decoys of this and other layers change what the network gives" in refused[pairs[0]]


def test_a_trial_speaks_against_a_pair():
    _, pairs, refused = ask(randomized(Activated(2)), Nothing("not this one"))
    assert refused == dict.fromkeys(pairs, "not this one")


class Rereads(Activated):
    def construct(self, x):
        y = self.norms[0](x)
        return self.relus[0](y) + self.relus[1](y)


class Mixes(Activated):
    def construct(self, x):
        return self.relus[0](self.norms[0](x)) + self.relus[0](self.norms[1](x))


class Crosses(Activated):
    def construct(self, x):
        norm = self.norms[0]
        return self.relus[0](norm(x)) + self.relus[1](norm(2 * x))


@pytest.mark.parametrize("kind", [Rereads, Mixes, Crosses])
def test_pairs_must_be_one_to_one(kind):
    _, pairs, refused = ask(randomized(kind(2)))
    assert set(pairs) == set(refused)


def test_a_pair_may_run_often():
    net = randomized(Activated())
    a, b = volume(seed=1), volume(seed=2)
    experiment, pairs, refused = ask(net, run=lambda: (net(a), net(x=b), net(a)))
    assert len(pairs) == 1
    assert not refused
    assert len(experiment.result) == 3


def test_decoys_are_not_left_behind():
    net = randomized(Activated(3, read=(1,)))
    x = volume()
    before = net(x).asnumpy()
    ask(net)
    np.testing.assert_array_equal(net(x).asnumpy(), before)


def test_randomness_is_told_from_reading():
    class Drawn(Activated):
        def construct(self, x):
            return super().construct(x) + ops.standard_normal((1,))

    _, pairs, refused = ask(randomized(Drawn()))
    assert "does not give the same twice" in refused[pairs[0]]


def test_the_network_may_catch_what_it_likes():
    class Catches(Activated):
        def construct(self, x):
            y = self.norms[0](x)
            try:
                z = self.relus[1](y)
            except BaseException:  # takes what stops a run
                z = 0
            return self.relus[0](y) + z

    _, pairs, refused = ask(randomized(Catches(2)))
    assert set(pairs) == set(refused)


def test_half_precision_is_as_it_was_after_a_run_that_stopped():
    class Half(Base):
        def build(self):
            self.after = nn.SequentialCell(nn.Conv3d(2, 2, 1)).to_float(ms.float16)

        def construct(self, x):
            y = self.conv(x)
            return self.bn(y) + self.after(y)

    net = randomized(Half())
    assert not bn3d.fold(net, volume()).folded
    one = Tensor(np.ones((2, 2), np.float32))
    assert ops.matmul(one, one).dtype == ms.float32
