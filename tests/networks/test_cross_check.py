"""`cross_check`: what is right passes, what is wrong on purpose is found and named."""

import contextlib
import json
import tracemalloc

import mindspore as ms
import numpy as np
import pytest
from mindspore import mint, nn, ops

import bn3d
from bn3d.mindspore_private.execution import is_recording
from support.c_interface import environment


class Network(nn.Cell):
    def __init__(self, norm, channels=4):
        super().__init__()
        self.conv = nn.Conv3d(2, channels, 3, weight_init="normal")
        self.first = norm(channels)
        self.head = nn.SequentialCell(nn.Conv3d(channels, channels, 3), norm(channels))

    def construct(self, x):
        return self.head(ops.relu(self.first(self.conv(x))))


def volume(shape=(2, 2, 4, 5, 6), mean=0.0, scale=1.0, dtype=ms.float32, seed=0):
    return ms.Tensor(mean + scale * np.random.default_rng(seed).standard_normal(shape), dtype)


def called_once(net):
    """MindSpore sets flags of its own at a network's first call in PyNative mode."""
    mode = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    with contextlib.suppress(KeyError):
        net(volume())
    ms.set_context(mode=mode)
    return net


def everything(net):
    """What may not change, to the bit."""
    values = {p.name: (id(p), p.requires_grad, p.asnumpy().tobytes()) for p in net.get_parameters()}
    attributes = {
        (name, key): list(value.items()) if isinstance(value, dict) else value
        for name, cell in net.cells_and_names()
        for key, value in vars(cell).items()
        if "hook" in key or isinstance(value, bool | int | str)
    }
    return values, attributes, ms.get_context("mode"), [c.training for c in net.cells()]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", [nn.BatchNorm3d, bn3d.BatchNorm3d, bn3d.SyncBatchNorm3d])
def test_layers_that_are_right(norm, training, mode):
    net = called_once(Network(norm).set_train(training))
    before = everything(net)
    report = bn3d.cross_check(net, volume())
    assert report.ok, str(report)
    assert report.training == training
    assert {layer.name for layer in report.layers} == {"first", "head.1"}
    expected = {"y", "moving_mean", "moving_variance"}
    if training:
        expected |= {"dx", "dgamma", "dbeta"}
    for layer in report.layers:
        assert {q.name for q in layer.quantities} == expected
        assert layer.calls == 1
        assert layer.dtype == "float32"
    assert everything(net) == before
    assert ("graphs" in str(report)) == (mode == "graph")


@pytest.mark.parametrize("dtype", [ms.float16, ms.bfloat16, ms.float64])
def test_other_dtypes(dtype):
    layer = bn3d.BatchNorm3d(3).set_train()
    report = bn3d.cross_check(layer, volume((2, 3, 4, 5, 6), dtype=dtype))
    assert report.ok, str(report)
    assert report.layers[0].dtype == str(dtype).lower()


def test_mixed_precision_and_a_loss_of_the_users():
    net = Network(bn3d.BatchNorm3d).set_train().to_float(ms.float16)
    report = bn3d.cross_check(net, volume(), loss=lambda y: (y.astype(ms.float32) ** 3).mean())
    assert report.ok, str(report)
    assert {layer.dtype for layer in report.layers} == {"float16"}


def test_faults_of_stock_show():
    one = bn3d.cross_check(nn.BatchNorm3d(3).set_train(), volume((1, 3, 1, 1, 1)))
    assert not one.ok
    assert "moving_variance is nan where the judge has 1" in str(one)
    assert "one value a channel" in str(one)
    many = volume((1, 2, 160, 160, 160), mean=100.0)
    large = bn3d.cross_check(nn.BatchNorm3d(2).set_train(), many)
    assert not large.ok
    assert "4,096,000 values a channel" in str(large)
    assert bn3d.cross_check(bn3d.BatchNorm3d(2).set_train(), many).ok


class Wrong(bn3d.BatchNorm3d):
    """The composed backend, with something done to what goes in or comes out of it."""

    def __init__(self, channels, before=None, after=None):
        super().__init__(channels)
        from bn3d.backends.composed import BACKEND  # noqa: PLC0415

        self._bn3d_settings = BACKEND.settings(1e-5, 0.9)

        def forward(x, gamma, beta, moving_mean, moving_variance, settings):
            statistics = (moving_mean, moving_variance)
            x = before(x) if before else x
            outputs = BACKEND.forward_training(x, gamma, beta, *statistics, settings)
            return (after(outputs[0], *statistics),) if after else outputs

        self._bn3d_forward_training = forward


def statistic_off(y, moving_mean, moving_variance):
    moving_variance.set_data(moving_variance.value() * 1.001)
    return y


def unbiased_forgotten(y, moving_mean, moving_variance):
    n = y.size // y.shape[1]
    moving_variance.set_data(0.9 + (moving_variance.value() - 0.9) * (n - 1) / n)
    return y


def tail_dropped(y, *_):
    return ops.concat((y.reshape(-1)[:-3], ops.zeros(3, y.dtype))).reshape(y.shape)


def flushed(x):
    return ops.select(x.abs() < 2.0**-14, ops.zeros_like(x), x)


@pytest.mark.parametrize(
    ("arguments", "x", "named"),
    [
        ({"after": statistic_off}, volume((2, 3, 4, 5, 6)), {"moving_variance"}),
        ({"after": unbiased_forgotten}, volume((2, 3, 4, 5, 6)), {"moving_variance"}),
        ({"after": tail_dropped}, volume((2, 3, 4, 5, 6)), {"y"}),
        (
            {"before": flushed},
            volume((2, 3, 4, 5, 6), scale=3e-5, dtype=ms.float16),
            {"y", "moving_mean"},
        ),
    ],
    ids=["statistic", "unbiased", "tail", "subnormals"],
)
def test_what_is_wrong_on_purpose_is_found_and_named(arguments, x, named):
    net = nn.SequentialCell(bn3d.BatchNorm3d(3), Wrong(3, **arguments)).set_train()
    if x.dtype == ms.float16:  # the first layer would make them normal
        net = nn.SequentialCell(Wrong(3, **arguments)).set_train()
    report = bn3d.cross_check(net, x)
    assert not report.ok
    assert [layer.ok for layer in report.layers] == [False, True][: len(report.layers)]
    worst = report.layers[0]
    assert isinstance(net[int(worst.name)], Wrong)
    wrong = {q.name for q in worst.quantities if not q.ok}
    assert named <= wrong, str(report)
    assert all(any(reason.startswith(name) for reason in worst.reasons) for name in named)


class Own(nn.BatchNorm3d):
    def construct(self, x):
        return ops.relu(super().construct(x))


def test_a_subclass_with_a_construct_of_its_own_is_held_like_the_others():
    report = bn3d.cross_check(Own(3).set_train(), volume((2, 3, 4, 5, 6)))
    assert not report.ok
    assert report.layers[0].backend == "Own"


class Shared(nn.Cell):
    """A layer called twice, gamma in two layers, and a layer that is never called."""

    def __init__(self):
        super().__init__()
        self.norm = bn3d.BatchNorm3d(3)
        self.other = bn3d.BatchNorm3d(3)
        self.other.bn2d.gamma = self.norm.bn2d.gamma
        self.unused = bn3d.BatchNorm3d(3)

    def construct(self, x):
        return self.other(self.norm(x) + self.norm(x * x))


class ByKeyword(nn.Cell):
    def __init__(self):
        super().__init__()
        self.norm = bn3d.BatchNorm3d(3)

    def construct(self, x):
        return self.norm(x=x)


def test_a_layer_that_is_called_by_keyword():
    report = bn3d.cross_check(ByKeyword().set_train(), volume((2, 3, 4, 5, 6)))
    assert report.ok
    assert report.layers[0].calls == 1


def test_shared_layers_and_parameters():
    report = bn3d.cross_check(Shared().set_train(), volume((2, 3, 4, 5, 6)))
    assert report.ok, str(report)
    calls = {layer.name: layer.calls for layer in report.layers}
    assert calls == {"norm": 2, "other": 1, "unused": 0}
    assert "unused" in report.notes[-1]


def test_a_recomputed_layer_counts_once():
    net = Network(bn3d.BatchNorm3d).set_train()
    net.head.recompute()
    report = bn3d.cross_check(net, volume())
    assert report.ok, str(report)
    assert {layer.calls for layer in report.layers} == {1}


def test_a_frozen_network():
    net = Network(bn3d.BatchNorm3d).set_train()
    bn3d.freeze(net, affine=True)
    report = bn3d.cross_check(net, volume())
    assert report.ok, str(report)
    assert "dx" in {q.name for q in report.layers[0].quantities}
    assert "dgamma" not in {q.name for q in report.layers[0].quantities}


def batch_norm_of_mint(channels):
    layer = mint.nn.BatchNorm3d(channels)
    bn3d.swap(layer)
    return layer


NORMS = [nn.BatchNorm3d, bn3d.BatchNorm3d, bn3d.SyncBatchNorm3d, batch_norm_of_mint]


@pytest.mark.parametrize("norm", NORMS)
def test_layers_in_evaluation_mode_within_a_network_that_trains(norm):
    net = Network(norm).set_train()
    net.first.set_train(False)
    report = bn3d.cross_check(net, volume())
    assert report.ok, str(report)
    assert {len(layer.quantities) for layer in report.layers} == {6}


def test_layers_in_training_mode_within_a_network_that_does_not_train():
    net = Network(bn3d.BatchNorm3d).set_train(False)
    net.first.set_train(True)
    report = bn3d.cross_check(net, volume())
    assert report.ok, str(report)
    assert {len(layer.quantities) for layer in report.layers} == {3}


class Teacher(nn.Cell):
    """Calls a layer three times with the same shape; only the second has a backward pass."""

    def __init__(self, norm):
        super().__init__()
        self.conv = nn.Conv3d(2, 4, 3, weight_init="normal")
        self.norm = norm(4)

    def construct(self, x):
        h = self.conv(x)
        self.norm(h * 3)
        return self.norm(h) + ops.stop_gradient(self.norm(h * 2))


@pytest.mark.parametrize("state", ["training", "evaluation", "frozen", "recomputed"])
@pytest.mark.parametrize("norm", NORMS)
def test_calls_without_a_backward_pass(norm, state):
    net = nn.SequentialCell(Teacher(norm)).set_train()
    if state == "evaluation":
        net[0].norm.set_train(False)
    elif state == "frozen":
        bn3d.freeze(net, affine=True)
    elif state == "recomputed":
        net[0].recompute()
    report = bn3d.cross_check(net, volume())
    assert report.ok, str(report)
    (layer,) = report.layers
    assert layer.calls == 3
    assert "dx" in {q.name for q in layer.quantities}


class Raises(Network):
    def construct(self, x):
        super().construct(x)
        raise KeyError("in the middle")


@pytest.mark.parametrize("training", [True, False])
def test_a_network_that_raises_is_as_before(training, mode):
    net = Raises(nn.BatchNorm3d).set_train(training)
    calls = []

    def hook(cell, inputs):
        calls.append(1)

    handle = net.first.register_forward_pre_hook(hook)
    called_once(net)
    calls.clear()
    before = everything(net)
    with pytest.raises(KeyError, match="in the middle"):
        bn3d.cross_check(net, volume())
    assert everything(net) == before
    assert calls == [1]
    handle.remove()


def test_the_report_is_json_and_worst_first():
    net = nn.SequentialCell(bn3d.BatchNorm3d(3), nn.BatchNorm3d(3)).set_train()
    report = bn3d.cross_check(net, volume((1, 3, 1, 1, 1)))
    read = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert read["ok"] is False
    assert [layer["name"] for layer in read["layers"]] == ["1", "0"]
    errors = read["layers"][0]["errors"]["moving_variance"]
    assert errors == {"relative": None, "ulp": None, "dtype": "float32", "ok": False}
    assert str(report).splitlines()[0].startswith("wrong: 1 of 2 batch norm layers")


def test_bad_arguments():
    net = Network(nn.BatchNorm3d)
    with pytest.raises(TypeError, match=r"'net' must be a mindspore.nn.Cell, got <class 'int'>"):
        bn3d.cross_check(3)
    with pytest.raises(TypeError, match="'loss' must be callable, got 3"):
        bn3d.cross_check(net, volume(), loss=3)
    with pytest.raises(ValueError, match="'loss' needs a network in training mode"):
        bn3d.cross_check(net, volume(), loss=lambda y: y.sum())
    with pytest.raises(ValueError, match="found no BatchNorm3d in Conv3d"):
        bn3d.cross_check(nn.Conv3d(2, 3, 3), volume())


@pytest.mark.parametrize("optimizer", [nn.SGD, mint.optim.Adam])
def test_a_training_step_is_refused_before_it_moves_a_parameter(optimizer):
    with_loss = nn.WithLossCell(Network(nn.BatchNorm3d), nn.MSELoss())
    step = nn.SequentialCell(with_loss, optimizer(with_loss.trainable_params())).set_train()
    before = everything(step)
    match = f"with {optimizer.__name__}: give the network itself, or nn.WithLossCell"
    with pytest.raises(ValueError, match=match):
        bn3d.cross_check(step, volume())
    assert everything(step) == before
    assert bn3d.cross_check(with_loss, volume(), volume((2, 4, 4, 5, 6))).ok


def test_a_thread_that_flushes_subnormal_numbers_does_not_hide_what_is_wrong():
    x = volume((2, 3, 4, 5, 6), scale=3e-5, dtype=ms.float16)
    with environment(flushing=True):
        assert bn3d.cross_check(bn3d.BatchNorm3d(3).set_train(), x).ok
        assert not bn3d.cross_check(Wrong(3, before=flushed).set_train(), x).ok


def test_a_swapped_layer_of_mint_without_parameters():
    layer = mint.nn.BatchNorm3d(3, affine=False).set_train()
    bn3d.swap(layer)
    net = nn.SequentialCell(nn.Conv3d(2, 3, 3), layer).set_train()
    report = bn3d.cross_check(net, volume())
    assert report.ok, str(report)
    assert {"y", "dx"} <= {q.name for q in report.layers[0].quantities}


def peak_of_numpy(layers, x):
    net = nn.SequentialCell(*(bn3d.BatchNorm3d(4) for _ in range(layers))).set_train()
    tracemalloc.start()
    try:
        assert bn3d.cross_check(net, x).ok
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_volumes_of_one_layer_at_a_time_are_in_memory():
    x = volume((2, 4, 16, 32, 32))
    volume_of_doubles = 8 * x.size
    assert peak_of_numpy(8, x) - peak_of_numpy(2, x) < volume_of_doubles / 2


@pytest.mark.parametrize("training", [True, False])
def test_a_network_that_raises_leaves_no_precision_and_no_gradient_open(training):
    net = Raises(nn.BatchNorm3d).set_train(training).to_float(ms.float16)
    with pytest.raises(KeyError, match="in the middle"):
        bn3d.cross_check(net, volume())
    assert not is_recording()
    assert nn.Conv3d(2, 4, 3)(volume()).dtype == ms.float32
