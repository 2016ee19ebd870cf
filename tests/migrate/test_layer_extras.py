"""What a layer has beside a batch norm: refused where it computes, warned of where it may; and
every tensor in a dtype that holds it.
"""

from __future__ import annotations

import warnings

import mindspore as ms
import numpy as np
import pytest
import torch
from mindspore import nn, ops
from torch.nn.utils import parametrize, prune

import bn3d
from migrate.resnets import assert_close


def batch(seed=0):
    return np.random.default_rng(seed).normal(2, 3, (2, 3, 4, 5, 6)).astype(np.float32)


class Plain(torch.nn.BatchNorm3d):
    """Keeps the forward."""


class Act(torch.nn.BatchNorm3d):
    def forward(self, x):
        return torch.relu(super().forward(x))


class Called(torch.nn.BatchNorm3d):
    def __call__(self, x):
        return 2 * super().__call__(x)


class SyncAct(torch.nn.SyncBatchNorm):
    def forward(self, x):
        return torch.relu(super().forward(x))


class Frozen(torch.nn.Module):
    """In the manner of detection networks; works for 4-D inputs only, as most do."""

    rank = 4

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.eps = 1e-3
        for name, value in (
            ("weight", [1.0, -2.0, 0.5]),
            ("bias", [0.0, 1.0, -1.0]),
            ("running_mean", [100.0, -3.0, 0.0]),
            ("running_var", [0.01, 2.0, 0.0]),
        ):
            self.register_buffer(name, torch.tensor(value, dtype=dtype))

    def forward(self, x):
        assert x.dim() == self.rank
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        shape = (1, -1, *[1] * (self.rank - 2))
        return x * scale.reshape(shape) + shift.reshape(shape)


class Frozen3d(Frozen):
    rank = 5


class FrozenAct(Frozen3d):
    def forward(self, x):
        return torch.nn.functional.leaky_relu(super().forward(x))


class FrozenInEvaluation(Frozen3d):
    """Normalises by the batch while it trains, and counts."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return x - x.mean() if self.training else super().forward(x)


class OfBuffers(torch.nn.BatchNorm3d):
    """A stock layer whose weights are constants."""

    def __init__(self, features):
        super().__init__(features, affine=False)
        for name in ("weight", "bias"):
            delattr(self, name)
            self.register_buffer(name, torch.full((features,), 2.0))


class FrozenScaled(Frozen):
    def forward(self, x):
        return super().forward(x) * 1.01


def patched():
    module = torch.nn.BatchNorm3d(3)
    forward = module.forward
    module.forward = lambda x: torch.relu(forward(x))
    return module


@pytest.mark.parametrize(
    ("build", "kind"),
    [
        (lambda: Act(3), "Act with a forward of its own"),
        (lambda: Called(3), "Called with a forward of its own"),
        (lambda: SyncAct(3), "SyncAct with a forward of its own"),
        (patched, "BatchNorm3d with a forward of its own"),
        (FrozenAct, "FrozenAct whose forward does more"),
        (FrozenInEvaluation, "FrozenInEvaluation whose forward does more"),
        (FrozenScaled, "FrozenScaled whose forward does more"),
        (lambda: torch.ao.nn.quantized.BatchNorm3d(3), "quantized"),
        (
            lambda: torch.ao.nn.intrinsic.BNReLU3d(torch.nn.BatchNorm3d(3), torch.nn.ReLU()),
            "BNReLU3d",
        ),
        (lambda: torch.nn.InstanceNorm3d(3), "InstanceNorm3d"),
    ],
)
def test_what_computes_more_is_refused(build, kind):
    with pytest.raises(TypeError, match=kind):
        bn3d.from_torch(build())


@pytest.mark.parametrize("kind", [Frozen, Frozen3d])
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str
)
def test_a_frozen_layer_is_recognised_by_what_it_computes(kind, dtype):
    theirs = kind(dtype)
    ours = bn3d.from_torch(theirs)
    assert ours.bn2d.use_batch_statistics is False
    assert not ours.trainable_params()
    x = batch()
    wanted = torch.nn.functional.batch_norm(
        torch.tensor(x),
        *(each.float() for each in (theirs.running_mean, theirs.running_var)),
        *(each.float() for each in (theirs.weight, theirs.bias)),
        eps=theirs.eps,
    )
    assert_close(ours(ms.Tensor(x)).asnumpy(), wanted, 1e-5)


def test_to_look_at_a_frozen_layer_does_not_change_it():
    module = FrozenInEvaluation()
    with pytest.raises(TypeError):
        bn3d.from_torch(module)
    assert module.training and module.calls == 0


def test_constants_in_a_stock_layer_are_not_frozen_statistics():
    theirs = OfBuffers(3)
    ours = bn3d.from_torch(theirs)
    assert not ours.trainable_params()
    x = batch()
    for _ in range(2):
        assert_close(ours(ms.Tensor(x)).asnumpy(), theirs(torch.tensor(x)), 1e-6)
    assert_close(ours.bn2d.moving_mean.asnumpy(), theirs.running_mean, 1e-6)


def test_a_subclass_that_keeps_the_forward_is_taken_without_a_word(recwarn):
    theirs = Plain(3, momentum=0.3)
    ours = bn3d.from_torch(theirs)
    assert not recwarn.list
    x = batch()
    assert_close(ours(ms.Tensor(x)).asnumpy(), theirs(torch.tensor(x)).detach(), 1e-6)


class Softplus(torch.nn.Module):
    def forward(self, weight):
        return torch.nn.functional.softplus(weight)


def parametrized():
    module = torch.nn.BatchNorm3d(3)
    parametrize.register_parametrization(module, "weight", Softplus())
    return module


def pruned():
    module = torch.nn.BatchNorm3d(3)
    prune.l1_unstructured(module, "weight", amount=1)
    return module


def hooked(register):
    def build():
        module = torch.nn.BatchNorm3d(3)
        getattr(module, register)(lambda *arguments: None)
        return module

    return build


def tensor_hook():
    module = torch.nn.BatchNorm3d(3)
    module.weight.register_hook(lambda gradient: 2 * gradient)
    return module


class StaysInEvaluation(torch.nn.BatchNorm3d):
    def train(self, mode=True):
        return super().train(False)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (hooked("register_forward_hook"), "the hooks of the torch.nn.*BatchNorm3d are left"),
        (hooked("register_forward_pre_hook"), "the hooks of the torch.nn.*BatchNorm3d are left"),
        (hooked("register_full_backward_hook"), "the hooks of the torch.nn.*BatchNorm3d are left"),
        (hooked("register_full_backward_pre_hook"), "the hooks of the torch.nn.*BatchNorm3d"),
        (tensor_hook, "the hooks of 'weight' of the torch.nn.*BatchNorm3d are left"),
        (parametrized, "'weight' of the .*ParametrizedBatchNorm3d is computed"),
        (pruned, "'weight' of the .*BatchNorm3d is computed"),
        (lambda: StaysInEvaluation(3), "StaysInEvaluation has a method train of its own"),
    ],
)
def test_what_may_change_the_result_is_warned_of(build, message):
    module = build()
    with pytest.warns(UserWarning, match=message), torch.no_grad():
        ours = bn3d.from_torch(module)
    np.testing.assert_array_equal(ours.bn2d.gamma.asnumpy(), module.weight.detach())
    assert ours.training == module.training


def test_a_parametrized_weight_is_trained_as_its_parameter_is():
    module = parametrized()
    with pytest.warns(UserWarning, match="is computed"), torch.no_grad():
        assert bn3d.from_torch(module).bn2d.gamma.requires_grad
    module.parametrizations.weight.original.requires_grad_(False)
    with pytest.warns(UserWarning, match="is computed"):
        assert not bn3d.from_torch(module).bn2d.gamma.requires_grad


def test_a_lazy_module_with_a_size_is_taken(recwarn):
    theirs = torch.nn.LazyBatchNorm3d()
    theirs.load_state_dict(torch.nn.BatchNorm3d(3).state_dict())
    assert bn3d.from_torch(theirs).bn2d.num_features == 3
    theirs(torch.tensor(batch()))
    assert bn3d.from_torch(theirs).bn2d.num_features == 3
    assert not recwarn.list  # of the hook that gives it a size
    bare = torch.nn.LazyBatchNorm3d(affine=False, track_running_stats=False)
    with pytest.raises(ValueError, match="without a size"):
        bn3d.from_torch(bare)


HALF = (torch.float16, torch.bfloat16)


@pytest.mark.parametrize("half", HALF, ids=str)
def test_statistics_beyond_the_dtype_of_the_weight_are_kept(half, mode, backend):
    theirs = torch.nn.BatchNorm3d(3).eval()
    with torch.no_grad():
        theirs.running_var.fill_(1.1e6)
        theirs.running_mean.fill_(1.1e5)
        theirs.weight.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(0))
    theirs.weight.data = theirs.weight.data.to(half)
    theirs.bias.data = theirs.bias.data.to(half)
    ours = bn3d.from_torch(theirs)
    name = str(half).removeprefix("torch.")
    assert [str(p.dtype).lower() for p in (ours.bn2d.gamma, ours.bn2d.beta)] == [name] * 2
    assert ours.bn2d.moving_mean.dtype == ours.bn2d.moving_variance.dtype == ms.float32
    np.testing.assert_array_equal(ours.bn2d.moving_variance.asnumpy(), theirs.running_var)
    np.testing.assert_array_equal(ours.bn2d.moving_mean.asnumpy(), theirs.running_mean)
    if (name, mode, backend) == ("bfloat16", "graph", "composed"):
        return  # MindSpore has no kernel there
    x = batch() * 1e4
    wide = theirs.float()
    assert_close(ours(ms.Tensor(x)).asnumpy(), wide(torch.tensor(x)).detach(), 1e-5)
    ours.set_train()(ms.Tensor(x))  # and they are updated in their own dtype
    assert ours.bn2d.moving_variance.dtype == ms.float32
    wide.train()(torch.tensor(x))
    assert_close(ours.bn2d.moving_variance.asnumpy(), wide.running_var, 1e-6)


def test_every_dtype_is_that_of_its_tensor():
    theirs = torch.nn.BatchNorm3d(3)
    dtypes = (torch.float64, torch.float16, torch.bfloat16, torch.float32)
    names = ("weight", "bias", "running_mean", "running_var")
    for name, dtype in zip(names, dtypes, strict=True):
        getattr(theirs, name).data = torch.tensor([1.0, 2.0, 3.0], dtype=dtype)
    with torch.no_grad():
        theirs.weight.fill_(1 + 1e-12)
    bn = bn3d.from_torch(theirs).bn2d
    got = [str(p.dtype).lower() for p in (bn.gamma, bn.beta, bn.moving_mean, bn.moving_variance)]
    assert got == [str(dtype).removeprefix("torch.") for dtype in dtypes]
    assert bn.gamma.asnumpy()[0] == 1 + 1e-12


def test_float8_becomes_float32():
    theirs = torch.nn.BatchNorm3d(3)
    theirs.weight = torch.nn.Parameter(torch.tensor([1.0, 1.5, 2.0]).to(torch.float8_e4m3fn))
    bn = bn3d.from_torch(theirs).bn2d
    assert bn.gamma.dtype == ms.float32
    assert bn.gamma.asnumpy().tolist() == [1, 1.5, 2]


def with_tensor(name, value):
    def build():
        module = torch.nn.BatchNorm3d(3)
        delattr(module, name)
        setattr(module, name, value)
        return module

    return build


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (with_tensor("running_mean", torch.ones(3, dtype=torch.int32)), TypeError, "torch.int32"),
        (with_tensor("bias", torch.ones(3, dtype=torch.cfloat)), TypeError, "torch.complex64"),
        (with_tensor("running_var", torch.ones(4)), ValueError, r"shape \(3,\), got \(4,\)"),
        (with_tensor("bias", torch.ones(3, 1)), ValueError, r"shape \(3,\), got \(3, 1\)"),
        (with_tensor("running_var", None), ValueError, "only one of 'running_mean' and"),
    ],
)
def test_tensors_that_are_none_of_a_batch_norm_are_refused(build, error, message):
    with pytest.raises(error, match=message):
        bn3d.from_torch(build())


def test_to_torch_has_one_dtype_that_holds_all(recwarn):
    ours = bn3d.BatchNorm3d(3)
    ours.bn2d.gamma.set_dtype(ms.float16)
    ours.bn2d.beta.set_dtype(ms.bfloat16)
    ours.bn2d.moving_variance.set_data(ms.Tensor([1e6] * 3, ms.float32))
    theirs = bn3d.to_torch(ours)
    assert {tensor.dtype for tensor in theirs.state_dict().values()} == {torch.float32, torch.int64}
    assert theirs.running_var.tolist() == [1e6] * 3
    x = batch() * 1e3
    assert_close(theirs(torch.tensor(x)).detach(), ours(ms.Tensor(x)).asnumpy(), 1e-5)
    assert not recwarn.list


class OursAct(bn3d.BatchNorm3d):
    def construct(self, x):
        return ops.relu(super().construct(x))


class StockAct(nn.BatchNorm3d):
    def construct(self, x):
        return ops.relu(super().construct(x))


class InnerAct(nn.BatchNorm2d):
    def construct(self, x):
        return ops.relu(super().construct(x))


class KeepsConstruct(nn.BatchNorm3d):
    pass


def around_inner(outer):
    layer = outer(3)
    layer.bn2d = InnerAct(3)
    return layer


def set_on_the_layer():
    layer = bn3d.BatchNorm3d(3)
    layer.construct = lambda x: x
    return layer


@pytest.mark.parametrize(
    ("build", "kind"),
    [
        (lambda: OursAct(3), "OursAct"),
        (lambda: StockAct(3), "StockAct"),
        (lambda: around_inner(nn.BatchNorm3d), "InnerAct"),
        (set_on_the_layer, "bn3d.layers.batch_norm.BatchNorm3d"),
    ],
)
def test_to_torch_refuses_what_computes_more(build, kind):
    with pytest.raises(TypeError, match=rf"{kind}, which has a construct of its own"):
        bn3d.to_torch(build())


def test_to_torch_takes_what_keeps_the_construct():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        swapped = nn.SequentialCell(nn.BatchNorm3d(3), KeepsConstruct(3))
        bn3d.swap(swapped)
        for layer in (KeepsConstruct(3), around_inner(bn3d.BatchNorm3d), *swapped):
            assert bn3d.to_torch(layer).num_features == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layer: layer.register_forward_hook(lambda *each: None), "the hooks of the bn3d"),
        (lambda layer: layer.register_forward_pre_hook(lambda *each: None), "the hooks of the"),
        (lambda layer: layer.register_backward_hook(lambda *each: None), "the hooks of the"),
        (lambda layer: layer.to_float(ms.float16), "the to_float of the bn3d"),
    ],
)
def test_to_torch_warns_of_what_is_left_behind(change, message):
    layer = bn3d.BatchNorm3d(3)
    change(layer)
    with pytest.warns(UserWarning, match=message):
        bn3d.to_torch(layer)


def test_a_tensor_of_torch_is_named_as_one(mode):
    with pytest.raises(TypeError, match=r"x must be a Tensor .* got <class 'torch\.Tensor'>"):
        bn3d.BatchNorm3d(3)(torch.ones(2, 3, 2, 2, 2))
