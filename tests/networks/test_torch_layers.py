"""Stock layers with PyTorch's arguments, and a MindSpore whose BatchNorm3d has those."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
import textwrap

import mindspore as ms
import numpy as np
import pytest
from mindspore import amp, mint, nn

import bn3d

torch = pytest.importorskip("torch")

ANNOUNCED = (
    "(num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, dtype=None)"
)


class Net(nn.Cell):
    """A mint layer; its parameters get the prefix "bn."."""

    def __init__(self, **arguments):
        super().__init__()
        self.bn = mint.nn.BatchNorm3d(3, **arguments)

    def construct(self, x):
        return self.bn(x)


def batch(seed):
    return np.random.default_rng(seed).normal(2, 3, (2, 3, 4, 5, 6)).astype(np.float32)


def stopped_tracking(layer):
    layer.track_running_stats = False


STATES = {
    "default": ({}, lambda layer: None),
    "momentum, eps": ({"momentum": 0.3, "eps": 1e-2}, lambda layer: None),
    "not affine": ({"affine": False}, lambda layer: None),
    "has no statistics": ({"track_running_stats": False}, lambda layer: None),
    "stopped tracking": ({}, stopped_tracking),
}


@pytest.mark.parametrize(("arguments", "change"), STATES.values(), ids=STATES)
@pytest.mark.parametrize("mode", [ms.PYNATIVE_MODE, ms.GRAPH_MODE], ids=["pynative", "graph"])
def test_swap_takes_a_mint_layer(arguments, change, mode):
    net, theirs = Net(**arguments), torch.nn.BatchNorm3d(3, **arguments)
    change(net.bn)
    change(theirs)
    kept = {p.name: p for p in net.get_parameters()}
    assert bn3d.swap(net).changed == ["bn"]
    assert isinstance(net.bn, mint.nn.BatchNorm3d)
    assert all(p is kept[p.name] for p in net.get_parameters() if p.name in kept)
    ms.set_context(mode=mode)
    try:
        for training in (True, False):
            net.set_train(training)
            theirs.train(training)
            for seed in range(3):
                x = batch(seed)
                wanted = theirs(torch.tensor(x)).detach().numpy()
                np.testing.assert_allclose(net(ms.Tensor(x)).asnumpy(), wanted, atol=5e-6)
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    if net.bn.running_mean is not None:
        np.testing.assert_allclose(
            net.bn.running_var.asnumpy(), theirs.running_var.numpy(), rtol=1e-6
        )
    for twin in (copy.deepcopy(net.bn), pickle.loads(pickle.dumps(net.bn))):
        np.testing.assert_array_equal(
            twin(ms.Tensor(batch(9))).asnumpy(), net.bn(ms.Tensor(batch(9))).asnumpy()
        )
    bn3d.restore(net)
    assert type(net.bn) is mint.nn.BatchNorm3d
    assert {p.name: p for p in net.get_parameters()} == kept


def test_parameter_names_and_order_stay():
    net = Net()
    before = [p.name for p in net.get_parameters()]
    bn3d.swap(net)
    assert [p.name for p in net.get_parameters()] == before


class Two(nn.Cell):
    """Two mint layers."""

    def __init__(self, **arguments):
        super().__init__()
        self.a, self.b = (mint.nn.BatchNorm3d(3, **arguments) for _ in range(2))

    def construct(self, x):
        return self.b(self.a(x))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("track", [True, False])
@pytest.mark.parametrize("mode", [ms.PYNATIVE_MODE, ms.GRAPH_MODE], ids=["pynative", "graph"])
def test_swap_adds_nothing_to_the_parameters(affine, track, mode, tmp_path):
    arguments = {"affine": affine, "track_running_stats": track}
    net = Two(**arguments).set_train()

    def listed():
        return (
            [p.name for p in net.get_parameters()],
            [name for name, _ in net.parameters_and_names()],
            list(net.parameters_dict()),
            [p.name for p in net.trainable_params()],
            [p.name for p in net.untrainable_params()],
        )

    before = listed()
    bn3d.swap(net)
    assert listed() == before
    ms.set_context(mode=mode)
    try:
        net(ms.Tensor(batch(0)))
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    assert listed() == before
    assert [p.name for p in copy.deepcopy(net).get_parameters()] == before[0]
    ms.export(net, ms.Tensor(batch(0)), file_name=str(tmp_path / "net"), file_format="MINDIR")
    if before[0]:
        path = str(tmp_path / "net.ckpt")
        ms.save_checkpoint(net, path)
        saved = ms.load_checkpoint(path)
        assert sorted(saved) == sorted(before[0])
        stock = Two(**arguments)
        assert ms.load_param_into_net(stock, saved, strict_load=True) == ([], [])
        assert ms.load_param_into_net(net, saved, strict_load=True) == ([], [])
    bn3d.restore(net)
    assert listed() == before


@pytest.mark.skipif(not hasattr(nn.Cell, "state_dict"), reason="this MindSpore has no state_dict")
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("track", [True, False])
def test_state_dicts_go_from_stock_to_swapped_and_back(affine, track):
    arguments = {"affine": affine, "track_running_stats": track}
    stock, swapped = Two(**arguments), Two(**arguments)
    bn3d.swap(swapped)
    for number, p in enumerate(stock.get_parameters()):
        p.set_data(ms.Tensor(np.full(p.shape, number), p.dtype))
    saved = stock.state_dict()
    assert list(swapped.state_dict()) == list(saved)
    assert swapped.state_dict()._metadata == saved._metadata
    for twin in (swapped, copy.deepcopy(swapped)):
        twin.load_state_dict(saved)
        for p, q in zip(twin.get_parameters(), stock.get_parameters(), strict=True):
            np.testing.assert_array_equal(p.asnumpy(), q.asnumpy())
    stock.load_state_dict(swapped.state_dict())
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"a.bn2d.gamma"'):
        swapped.load_state_dict({**saved, "a.bn2d.gamma": ms.Tensor(np.ones(3, np.float32))})


def assign_parameters(layer):
    for name, value in (("weight", 2.0), ("bias", -1.0)):
        if isinstance(layer, torch.nn.Module):
            new = torch.nn.Parameter(torch.full((3,), value))
        else:
            new = ms.Parameter(ms.Tensor(np.full(3, value, np.float32)), name=f"bn.{name}")
        setattr(layer, name, new)


def insert_parameters(layer):
    if isinstance(layer, torch.nn.Module):
        assign_parameters(layer)
    else:
        for name, value in (("weight", 2.0), ("bias", -1.0)):
            new = ms.Parameter(ms.Tensor(np.full(3, value, np.float32)), name=f"bn.{name}")
            layer.insert_param_to_cell(name, new)


ASSIGNMENTS = {
    "momentum": lambda layer: setattr(layer, "momentum", 0.5),
    "eps": lambda layer: setattr(layer, "eps", 2.0),
    "not training": lambda layer: setattr(layer, "training", False),
    "track_running_stats": lambda layer: setattr(layer, "track_running_stats", False),
    "parameters": assign_parameters,
    "inserted parameters": insert_parameters,
}


@pytest.mark.parametrize("assign", ASSIGNMENTS.values(), ids=ASSIGNMENTS)
@pytest.mark.parametrize("mode", [ms.PYNATIVE_MODE, ms.GRAPH_MODE], ids=["pynative", "graph"])
def test_what_is_assigned_to_a_swapped_layer_counts(assign, mode):
    """As in PyTorch; also where a graph was compiled before, but for `training` alone, which
    belongs to `set_train` there.
    """
    net, theirs = Net().set_train(), torch.nn.BatchNorm3d(3)
    bn3d.swap(net)
    ms.set_context(mode=mode)
    try:
        if mode == ms.PYNATIVE_MODE or assign is not ASSIGNMENTS["not training"]:
            net(ms.Tensor(batch(0)))
            theirs(torch.tensor(batch(0)))
        assign(net.bn)
        assign(theirs)
        for seed in (1, 2):
            wanted = theirs(torch.tensor(batch(seed))).detach().numpy()
            np.testing.assert_allclose(net(ms.Tensor(batch(seed))).asnumpy(), wanted, atol=5e-6)
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    mean, variance = net.bn.running_mean.asnumpy(), net.bn.running_var.asnumpy()
    np.testing.assert_allclose(mean, theirs.running_mean.numpy(), rtol=1e-5)
    np.testing.assert_allclose(variance, theirs.running_var.numpy(), rtol=1e-5)


@pytest.mark.parametrize("name, value", [("momentum", None), ("momentum", 2.0), ("eps", "x")])
def test_a_value_that_cannot_be_computed_with_is_refused(name, value):
    net = Net().set_train()
    bn3d.swap(net)
    before, child = getattr(net.bn, name), net.bn.bn2d
    wanted = net(ms.Tensor(batch(1))).asnumpy()
    with pytest.raises((TypeError, ValueError)):
        setattr(net.bn, name, value)
    assert getattr(net.bn, name) == before and net.bn.bn2d is child
    np.testing.assert_array_equal(net(ms.Tensor(batch(1))).asnumpy(), wanted)


def test_a_frozen_layer_stays_frozen_when_it_is_assigned_to():
    net = Net().set_train()
    bn3d.swap(net)
    bn3d.freeze(net)
    net.bn.momentum = 0.5
    net(ms.Tensor(batch(0)))
    np.testing.assert_array_equal(net.bn.running_mean.asnumpy(), np.zeros(3))
    assert bn3d.unfreeze(net) == ["bn"]
    net(ms.Tensor(batch(0)))
    mean = 0.5 * batch(0).mean((0, 2, 3, 4))
    np.testing.assert_allclose(net.bn.running_mean.asnumpy(), mean, rtol=1e-5)


def test_a_wrapped_child_follows_what_is_assigned():
    """`black_list=[nn.BatchNorm2d]` puts a cell around the child."""
    net = Net().set_train()
    bn3d.swap(net)
    amp.custom_mixed_precision(net, black_list=[nn.BatchNorm2d])
    assert not isinstance(net.bn.bn2d, nn.BatchNorm2d)
    bn3d.freeze(net)
    net.bn.training = False
    assert not net.bn.bn2d._backbone.training
    net.bn.training = True
    net.bn.eps = 1e-4
    net(ms.Tensor(batch(0)))
    np.testing.assert_array_equal(net.bn.running_mean.asnumpy(), np.zeros(3))
    assert bn3d.unfreeze(net) == ["bn"]


def test_the_cumulative_average_is_left_alone():
    net = Net(momentum=None)
    with pytest.warns(UserWarning, match="leaves 'bn' alone: 'momentum' is None"):
        report = bn3d.swap(net)
    assert list(report.left) == ["bn"]
    assert type(net.bn) is mint.nn.BatchNorm3d


def test_a_frozen_mint_layer_is_not_restored():
    """It would train again: what freezes it is in the child that restoring takes away."""
    net = Net()
    bn3d.swap(net)
    bn3d.freeze(net, affine=True)
    with pytest.warns(UserWarning, match=r"leaves 'bn' alone: it is frozen: bn3d.unfreeze\(net\)"):
        report = bn3d.restore(net)
    assert (report.changed, list(report.left)) == ([], ["bn"])
    bn3d.unfreeze(net)
    assert bn3d.restore(net).changed == ["bn"]
    assert type(net.bn) is mint.nn.BatchNorm3d
    assert net.bn.weight.requires_grad


def test_a_frozen_mint_layer_stays_so_when_it_is_synchronised():
    net = Net()
    bn3d.swap(net)
    bn3d.freeze(net)
    child = net.bn.bn2d
    assert bn3d.swap(net, sync=True).changed == ["bn"]
    assert net.bn.bn2d is child
    assert bn3d.unfreeze(net) == ["bn"]


def test_a_mint_subclass_with_its_own_construct_is_left_alone():
    class Own(mint.nn.BatchNorm3d):
        def construct(self, input):
            return input

    with pytest.warns(UserWarning, match="construct of its own"):
        assert bn3d.swap(Own(3)).left


def test_the_announced_signature_is_that_of_mint():
    announced = inspect.signature(eval(f"lambda {ANNOUNCED[1:-1]}: None")).parameters
    actual = inspect.signature(mint.nn.BatchNorm3d.__init__).parameters
    wanted = [(p.name, p.default) for p in announced.values()]
    assert [(p.name, p.default) for p in actual.values()][1:] == wanted


def test_the_constructor_does_not_use_that_of_the_stock_layer(monkeypatch):
    def announced(self, num_features, eps=1e-5, momentum=0.1, affine=True,
                  track_running_stats=True, dtype=None):  # fmt: skip
        raise AssertionError("the stock constructor was called")

    for stock in (nn.BatchNorm3d, nn.BatchNorm2d):
        monkeypatch.setattr(stock, "__init__", announced)
    layer = bn3d.BatchNorm3d(3, 1e-3, 0.7, True, "zeros", use_batch_statistics=True)
    assert layer.bn2d.momentum == pytest.approx(0.3)
    pickle.loads(pickle.dumps(layer))


# MindSpore as it is announced: nn's layers are those of mint, before bn3d is imported.
IN_THE_NEW_MINDSPORE = """
    import copy, pickle
    import numpy as np, torch
    import mindspore as ms
    from mindspore import amp, mint, nn
    nn.BatchNorm3d, nn.BatchNorm2d = mint.nn.BatchNorm3d, mint.nn.BatchNorm2d
    import bn3d

    def check(layer, theirs):
        for training in (True, False):
            layer.set_train(training)
            theirs.train(training)
            wanted = theirs(torch.tensor(x)).detach().numpy()
            np.testing.assert_allclose(layer(ms.Tensor(x)).asnumpy(), wanted, atol=5e-6)

    x = np.random.default_rng(0).normal(2, 3, (2, 3, 4, 5, 6)).astype(np.float32)
    new, old = nn.BatchNorm3d(3, momentum=0.3), bn3d.BatchNorm3d(3, momentum=0.7)
    bn3d.swap(new)
    assert isinstance(old, nn.BatchNorm3d) and isinstance(old.bn2d, nn.BatchNorm2d)
    names = ["bn2d.moving_mean", "bn2d.moving_variance", "bn2d.gamma", "bn2d.beta"]
    assert [p.name for p in old.get_parameters()] == names
    for layer in (new, old, bn3d.BatchNorm3d.from_torch_args(3, momentum=0.3),
                  bn3d.from_torch(torch.nn.BatchNorm3d(3, momentum=0.3)),
                  pickle.loads(pickle.dumps(bn3d.BatchNorm3d(3, momentum=0.7))),
                  copy.deepcopy(bn3d.BatchNorm3d(3, momentum=0.7))):
        check(layer, torch.nn.BatchNorm3d(3, momentum=0.3))
    assert "bn2d" in repr(old) and repr(new)
    ms.export(old, ms.Tensor(x), file_name="old", file_format="MINDIR")
    ms.export(new, ms.Tensor(x), file_name="new", file_format="MINDIR")
    net = nn.SequentialCell(nn.Conv3d(3, 3, 1), bn3d.BatchNorm3d(3))
    state = bn3d.to_torch_state_dict(net).tensors
    assert bn3d.convert_state_dict(state, net).complete
    assert bn3d.freeze(net) == ["1"] and bn3d.fold(net, ms.Tensor(x)).folded == {"1": "0"}
"""


def test_all_works_with_the_announced_mindspore(tmp_path, child_environment):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(IN_THE_NEW_MINDSPORE))
    result = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=child_environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
