"""`bn3d.from_torch` and `bn3d.to_torch`: what a layer computes is what PyTorch's computes."""

from __future__ import annotations

import sys

import mindspore as ms
import numpy as np
import pytest
import torch

import bn3d
from migrate.resnets import assert_close, mindspore_step, torch_step

STEPS = 4


def torch_layer(seed=0, channels=3, **arguments):
    layer = torch.nn.BatchNorm3d(channels, **arguments)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        if layer.weight is not None:
            layer.weight.uniform_(0.5, 1.5, generator=generator)
        if layer.bias is not None:
            layer.bias.uniform_(-1, 1, generator=generator)
        if layer.running_mean is not None:
            layer.running_mean.uniform_(-1, 1, generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
    return layer


def stopped_tracking():
    layer = torch_layer()
    layer.track_running_stats = False
    return layer


def batch(seed, dtype=np.float32):
    return np.random.default_rng(seed).normal(2, 3, (2, 3, 4, 5, 6)).astype(dtype)


STATES = {
    "tracks": torch_layer,
    "tracks, momentum and eps": lambda: torch_layer(momentum=0.25, eps=1e-2),
    "has no statistics": lambda: torch_layer(track_running_stats=False),
    "has no statistics, momentum None": lambda: torch_layer(
        track_running_stats=False, momentum=None
    ),
    "stopped tracking": stopped_tracking,
    "not affine": lambda: torch_layer(affine=False),
    "no bias": lambda: torch_layer(bias=False),
}
EVERY_STATE = pytest.mark.parametrize("build", STATES.values(), ids=STATES)
TRAINING = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


def assert_same_statistics(ours, theirs):
    if theirs.running_mean is not None:
        assert_close(ours.bn2d.moving_mean.asnumpy(), theirs.running_mean.numpy(), 1e-6)
        assert_close(ours.bn2d.moving_variance.asnumpy(), theirs.running_var.numpy(), 1e-6)


@EVERY_STATE
@TRAINING
@pytest.mark.parametrize("mode", [ms.PYNATIVE_MODE, ms.GRAPH_MODE], ids=["pynative", "graph"])
def test_every_state_computes_what_torch_does(build, training, mode):
    theirs = build().train(training)
    ours = bn3d.from_torch(theirs)
    assert ours.training == training
    ms.set_context(mode=mode)
    try:
        for seed in range(STEPS):
            x = batch(seed)
            assert_close(ours(ms.Tensor(x)).asnumpy(), theirs(torch.tensor(x)).detach(), 1e-6)
            assert_same_statistics(ours, theirs)
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)


@pytest.mark.parametrize("build", [STATES["tracks"], stopped_tracking])
@TRAINING
def test_k_training_steps_give_the_same_outputs_gradients_and_statistics(build, training):
    theirs = build().train(training)
    ours = bn3d.from_torch(theirs)
    step, torch_s = mindspore_step(ours), torch_step(theirs)
    for seed in range(STEPS):
        y, dx, gradients = step(batch(seed))
        wanted_y, wanted_dx, wanted = torch_s(batch(seed))
        assert_close(y, wanted_y, 1e-6)
        assert_close(dx, wanted_dx, 1e-5, floor=0)
        assert_close(gradients["bn2d.gamma"], wanted["weight"], 1e-5, floor=0)
        assert_close(gradients["bn2d.beta"], wanted["bias"], 1e-5, floor=0)
        assert_same_statistics(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_dtype_is_kept(dtype):
    theirs = torch_layer().to(dtype)
    ours = bn3d.from_torch(theirs)
    assert str(ours.bn2d.gamma.dtype).lower() == str(dtype).removeprefix("torch.")
    assert_close(
        ours.bn2d.moving_variance.astype(ms.float64).asnumpy(), theirs.running_var.double(), 0
    )
    assert bn3d.to_torch(ours).weight.dtype == dtype


def test_the_copy_is_independent():
    theirs = torch_layer()
    ours = bn3d.from_torch(theirs)
    before = ours.bn2d.gamma.asnumpy().copy()
    with torch.no_grad():
        theirs.weight.fill_(7)
    np.testing.assert_array_equal(ours.bn2d.gamma.asnumpy(), before)


def test_what_is_not_trained_stays_so():
    theirs = torch_layer()
    theirs.weight.requires_grad_(False)
    ours = bn3d.from_torch(theirs)
    assert not ours.bn2d.gamma.requires_grad
    assert ours.bn2d.beta.requires_grad
    back = bn3d.to_torch(ours)
    assert not back.weight.requires_grad
    assert back.bias.requires_grad


class FrozenBatchNorm(torch.nn.Module):
    """In the manner of detection networks: four buffers, nothing is trained."""

    def __init__(self, source):
        super().__init__()
        self.eps = source.eps
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, getattr(source, name).detach().clone())

    def forward(self, x):
        shape = (1, -1, 1, 1, 1)
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.reshape(shape) + shift.reshape(shape)


@TRAINING
def test_a_frozen_layer_stays_frozen(training):
    theirs = FrozenBatchNorm(torch_layer()).train(training)
    ours = bn3d.from_torch(theirs)
    assert not ours.trainable_params()
    before = ours.bn2d.moving_mean.asnumpy().copy()
    x = batch(0)
    assert_close(ours(ms.Tensor(x)).asnumpy(), theirs(torch.tensor(x)), 1e-6)
    np.testing.assert_array_equal(ours.bn2d.moving_mean.asnumpy(), before)


def test_sync_batch_norm_stays_synchronised():
    theirs = torch.nn.SyncBatchNorm(3, momentum=0.3).eval()
    ours = bn3d.from_torch(theirs)
    assert isinstance(ours, bn3d.SyncBatchNorm3d)
    x = batch(0)
    assert_close(ours(ms.Tensor(x)).asnumpy(), theirs(torch.tensor(x)).detach(), 1e-6)
    assert ours.bn2d.momentum == pytest.approx(0.3)
    back = bn3d.to_torch(ours)
    assert isinstance(back, torch.nn.SyncBatchNorm)
    assert_close(back(torch.tensor(x)).detach(), theirs(torch.tensor(x)).detach(), 1e-6)


def test_a_process_group_of_torch_comes_with_a_warning():
    theirs = torch.nn.SyncBatchNorm(3, process_group=object())
    with pytest.warns(UserWarning, match="spans all devices"):
        bn3d.from_torch(theirs)


def test_momentum_none_is_refused_unless_a_value_is_given():
    theirs = torch_layer(momentum=None)
    with pytest.raises(ValueError, match="'momentum' is None, the cumulative average"):
        bn3d.from_torch(theirs)
    assert bn3d.from_torch(theirs, momentum=0.2).bn2d.momentum == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: torch.nn.BatchNorm2d(3), TypeError, "torch.nn.modules.batchnorm.BatchNorm2d"),
        (lambda: torch.nn.Sequential(torch.nn.BatchNorm3d(3)), TypeError, "convert_state_dict"),
        (lambda: 3, TypeError, "got <class 'int'>;"),
        (torch.nn.LazyBatchNorm3d, ValueError, "without a size"),
        (lambda: torch.nn.BatchNorm3d(3, momentum=1.5), ValueError, "'momentum' must be"),
        (lambda: torch.nn.BatchNorm3d(3, device="meta"), ValueError, "meta device"),
    ],
)
def test_what_cannot_be_converted_is_refused(build, error, message):
    with pytest.raises(error, match=message):
        bn3d.from_torch(build())


def test_a_negative_variance_is_refused():
    theirs = torch_layer()
    theirs.running_var[1] = -1
    with pytest.raises(ValueError, match="'running_var' has negative values"):
        bn3d.from_torch(theirs)


@pytest.mark.parametrize("name", ["from_torch", "to_torch"])
def test_without_torch_the_error_says_how_to_install_it(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="pip install torch"):
        getattr(bn3d, name)(bn3d.BatchNorm3d(3))


@EVERY_STATE
@TRAINING
def test_there_and_back_is_the_same_layer(build, training):
    theirs = build().train(training)
    back = bn3d.to_torch(bn3d.from_torch(theirs))
    assert back.training == training
    for seed in range(STEPS):
        x = torch.tensor(batch(seed))
        assert_close(back(x).detach(), theirs(x).detach(), 1e-6)


def test_to_torch_refuses_what_torch_has_no_state_for():
    layer = bn3d.BatchNorm3d(3, use_batch_statistics=False)
    layer.set_train()
    with pytest.raises(ValueError, match=r"set_train\(False\) first"):
        bn3d.to_torch(layer)
    layer.set_train(False)
    assert not bn3d.to_torch(layer).training


def test_to_torch_takes_a_stock_layer_and_nothing_else():
    stock = ms.nn.BatchNorm3d(3, momentum=0.7, eps=1e-3)
    theirs = bn3d.to_torch(stock)
    assert (theirs.momentum, theirs.eps) == (pytest.approx(0.3), pytest.approx(1e-3))
    with pytest.raises(TypeError, match=r"'layer' must be a BatchNorm3d"):
        bn3d.to_torch(ms.nn.BatchNorm2d(3))


@pytest.mark.parametrize(
    "arguments",
    [{}, {"momentum": 0.3}, {"track_running_stats": False}, {"affine": False}, {"bias": False}],
)
def test_torch_arguments_mean_what_they_mean_in_torch(arguments):
    ours = bn3d.BatchNorm3d.from_torch_args(3, **arguments)
    theirs = torch.nn.BatchNorm3d(3, **arguments)
    assert not ours.training
    assert len(ours.trainable_params()) == len(list(theirs.parameters()))
    for training in (True, False):
        ours.set_train(training)
        theirs.train(training)
        x = batch(training)
        assert_close(ours(ms.Tensor(x)).asnumpy(), theirs(torch.tensor(x)).detach(), 1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"momentum": None}, ValueError, "'momentum' is None"),
        ({"momentum": "0.1"}, TypeError, "'momentum' must be a number"),
        ({"momentum": 2}, ValueError, "'momentum' must be a number from 0 to 1"),
        ({"track_running_stats": None}, TypeError, "'track_running_stats' must be a bool"),
        ({"eps": -1.0}, ValueError, "'eps'"),
        ({"bias": None}, TypeError, "'bias' must be a bool"),
    ],
)
def test_wrong_torch_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        bn3d.BatchNorm3d.from_torch_args(3, **arguments)
