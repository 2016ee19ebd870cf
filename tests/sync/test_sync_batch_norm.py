"""One process: `SyncBatchNorm3d` and `swap(net, sync=True)` without communication."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import runpy
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

import bn3d
from bn3d import backends, reference
from bn3d.backends import split, synchronised
from bn3d.backends.backend import Operators
from bn3d.backends.process_groups import Membership


@pytest.fixture
def x() -> ms.Tensor:
    rng = np.random.default_rng(0)
    return ms.Tensor(rng.standard_normal((2, 3, 2, 3, 4)).astype(np.float32))


def assert_same(one: nn.Cell, other: nn.Cell, x: ms.Tensor) -> None:
    """Same output in training, and the same state after it."""
    outputs = [cell.set_train()(x).asnumpy() for cell in (one, other)]
    np.testing.assert_array_equal(*outputs)
    for a, b in zip(one.get_parameters(), other.get_parameters(), strict=True):
        np.testing.assert_array_equal(a.asnumpy(), b.asnumpy())


def test_arguments_are_those_of_the_stock_layers():
    ours, stock = (
        inspect.signature(cls.__init__).parameters
        for cls in (bn3d.SyncBatchNorm3d, nn.SyncBatchNorm)
    )
    assert [(p.name, p.default) for p in ours.values()] == [
        (p.name, p.default) for p in stock.values()
    ]


def test_parameters_are_those_of_batch_norm():
    plain, sync = bn3d.BatchNorm3d(3), bn3d.SyncBatchNorm3d(3)
    assert [p.name for p in sync.get_parameters()] == [p.name for p in plain.get_parameters()]
    assert isinstance(sync, nn.BatchNorm3d)  # what mixed precision looks for


@pytest.mark.parametrize("process_groups", [None, [[0, 1]], []])
def test_one_process_computes_like_batch_norm(x, backend, process_groups):
    sync = bn3d.SyncBatchNorm3d(3, process_groups=process_groups)
    assert_same(sync, bn3d.BatchNorm3d(3), x)


@pytest.mark.parametrize("name", ["MS_WORKER_NUM", "RANK_SIZE", "OMPI_COMM_WORLD_SIZE"])
def test_one_of_several_processes_has_to_initialise(monkeypatch, name):
    monkeypatch.setenv(name, "2")
    net = nn.SequentialCell(nn.BatchNorm3d(3))
    for build in (lambda: bn3d.SyncBatchNorm3d(3), lambda: bn3d.swap(net, sync=True)):
        with pytest.raises(RuntimeError, match=rf"one of 2 processes \({name}\).*init\(\)"):
            build()
    assert type(net[0]) is nn.BatchNorm3d


@pytest.mark.parametrize(
    ("groups", "error", "text"),
    [
        (0, TypeError, "must be a list of lists of ranks or None, got 0"),
        ([0, 1], TypeError, r"must be a list of lists of ranks or None, got \[0, 1\]"),
        ([["0"]], TypeError, r"must hold ints, got '0' \(str\)"),
        ([[True]], TypeError, r"must hold ints, got True \(bool\)"),
        ([[0, 1], [1]], ValueError, "must hold a rank once, got 1 twice"),
    ],
)
def test_bad_process_groups(groups, error, text):
    with pytest.raises(error, match="'process_groups' " + text):
        bn3d.SyncBatchNorm3d(3, process_groups=groups)
    net = nn.BatchNorm3d(3)
    with pytest.raises(error, match="'process_groups' " + text):
        bn3d.swap(net, sync=True, process_groups=groups)
    assert type(net) is nn.BatchNorm3d


class Net(nn.Cell):
    """A stock layer, a swapped one's class, ours, ours of a subclass, and one that is done."""

    class Own(bn3d.BatchNorm3d):
        def construct(self, x):
            return super().construct(x) + 1

    class Subclass(nn.BatchNorm3d):
        pass

    def __init__(self):
        super().__init__()
        self.layers = nn.SequentialCell(
            nn.BatchNorm3d(3),
            self.Subclass(3),
            bn3d.BatchNorm3d(3),
            self.Own(3),
            bn3d.SyncBatchNorm3d(3),
        )

    def construct(self, x):
        return self.layers(x)


@pytest.mark.parametrize("swapped_before", [False, True])
def test_swap_and_restore(x, swapped_before):
    net, plain = Net(), Net()
    classes = [type(cell) for cell in net.layers]
    parameters = list(net.get_parameters())
    if swapped_before:
        bn3d.swap(net)
    report = bn3d.swap(net, sync=True)
    assert len(report.changed) == 4
    assert report.already == ["layers.4"]
    assert all(isinstance(cell, bn3d.SyncBatchNorm3d) for cell in net.layers)
    assert all(isinstance(cell, cls) for cell, cls in zip(net.layers, classes, strict=True))
    assert all(a is b for a, b in zip(net.get_parameters(), parameters, strict=True))
    bn3d.swap(plain)
    assert_same(net, plain, x)

    assert len(bn3d.restore(net).changed) == 4
    assert [type(cell) for cell in net.layers] == classes
    assert "process_groups" not in vars(net.layers[0])
    bn3d.restore(plain)
    assert_same(net, plain, x)


def test_swap_without_sync_leaves_synchronised_layers(x):
    net = Net()
    bn3d.swap(net, sync=True)
    assert not bn3d.swap(net).changed
    assert all(isinstance(cell, bn3d.SyncBatchNorm3d) for cell in net.layers)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"sync": 1}, TypeError, r"'sync' must be a bool, got 1 \(int\)"),
        ({"process_groups": [[0]]}, ValueError, "'process_groups' needs sync=True"),
    ],
)
def test_bad_arguments_of_swap(arguments, error, text):
    net = nn.BatchNorm3d(3)
    with pytest.raises(error, match=text):
        bn3d.swap(net, **arguments)
    assert type(net) is nn.BatchNorm3d


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
def test_copies(x, duplicate):
    built = bn3d.SyncBatchNorm3d(3, process_groups=[[0], [1, 2]])
    swapped = nn.BatchNorm3d(3)
    bn3d.swap(swapped, sync=True, process_groups=[[0], [1, 2]])
    for cell in (built, swapped):
        twin = duplicate(cell)
        assert type(twin) is type(cell)
        assert twin.process_groups == [[0], [1, 2]]
        assert_same(twin, cell, x)


@pytest.mark.parametrize(("channels", "devices"), [(3, 2), (16, 8)])
def test_one_all_reduce_in_each_direction(monkeypatch, channels, devices):
    """Their sizes are those that docs/sync.md is computed from."""
    sent = []

    def all_reduce(_operation, _group):
        def record(vector):
            assert vector.dtype == ms.float32
            sent.append(vector.size)
            return vector

        return record

    monkeypatch.setattr(synchronised.ops, "AllReduce", all_reduce)
    membership = Membership(f"not there, of {devices}", devices, place=1)
    forward = synchronised.build(backends.choose().backend, membership).forward_training
    bn = nn.BatchNorm3d(channels).bn2d

    def loss(x, gamma, beta):
        settings = split.settings(bn.eps, 0.9)
        return forward(x, gamma, beta, bn.moving_mean, bn.moving_variance, settings)[0].sum()

    x = ms.ops.ones((1, channels, 2, 2, 2))
    ms.grad(loss, (0, 1, 2))(x, bn.gamma, bn.beta)
    assert sent == [
        synchronised.values_forward(channels, devices),
        synchronised.values_backward(channels),
    ]


def test_operators_get_no_dtype_that_they_do_not_take(monkeypatch):
    """As on ascend910, which has no bfloat16, and on Ascend of float64."""
    monkeypatch.setattr(synchronised.ops, "AllReduce", lambda _operation, _group: lambda sums: sums)
    given = []

    def recorded(operator):
        def call(x, *rest):
            given.append(x.dtype)
            return operator(x, *rest)

        return call

    native = backends.choose().backend
    operators = Operators(*map(recorded, native.operators))
    backend = dataclasses.replace(native, operators=operators, dtypes=("float32",))
    forward = synchronised.build(backend, Membership("not there, of 1", 1, 0)).forward_training
    bn = nn.BatchNorm3d(3).bn2d

    def normalized(x):
        settings = split.settings(bn.eps, 0.9)
        return forward(x, bn.gamma, bn.beta, bn.moving_mean, bn.moving_variance, settings)[0]

    values = np.random.default_rng(0).standard_normal((2, 3, 2, 2, 2))
    for dtype, atol in ((ms.bfloat16, 2e-2), (ms.float64, 1e-6)):
        x = ms.Tensor(values, dtype)
        y = normalized(x)
        dx = ms.grad(lambda x: normalized(x).astype(ms.float32).sum())(x)
        assert (y.dtype, dx.dtype) == (dtype, dtype)
        want = reference.forward_training(values, np.ones(3), np.zeros(3), *np.zeros((2, 3))).y
        np.testing.assert_allclose(y.astype(ms.float32).asnumpy(), want, atol=atol)
    assert set(given) == {ms.float32}


def test_tables_in_the_documentation():
    root = Path(__file__).parents[2]
    namespace = runpy.run_path(str(root / "scripts" / "sync_cost.py"))
    assert namespace["tables"]() in (root / "docs" / "sync.md").read_text()
