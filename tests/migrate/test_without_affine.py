"""Layers without gamma and beta, or without statistics, which PyTorch has no tensors for."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
import torch
from mindspore import nn

import bn3d
from migrate.resnets import assert_close

NORMS = {
    "batch norm 1d": (nn.BatchNorm1d, torch.nn.BatchNorm1d, (4, 3)),
    "batch norm 2d": (nn.BatchNorm2d, torch.nn.BatchNorm2d, (4, 3, 5, 6)),
    "batch norm 3d": (nn.BatchNorm3d, torch.nn.BatchNorm3d, (4, 3, 5, 6, 2)),
    "bn3d": (bn3d.BatchNorm3d, torch.nn.BatchNorm3d, (4, 3, 5, 6, 2)),
}
ARGUMENTS = [
    ({"affine": False}, {"affine": False}),
    ({"track_running_stats": False}, {"use_batch_statistics": True}),
    (
        {"affine": False, "track_running_stats": False},
        {"affine": False, "use_batch_statistics": True},
    ),
]


@pytest.mark.parametrize(("ours", "theirs", "shape"), NORMS.values(), ids=NORMS)
@pytest.mark.parametrize(("torch_arguments", "arguments"), ARGUMENTS, ids=str)
def test_layers_without_affine_or_statistics(ours, theirs, shape, torch_arguments, arguments):
    kept = {} if ours is bn3d.BatchNorm3d else {"gamma_init": 2, "beta_init": 1}  # not kept
    kept = kept if "affine" in arguments else {}
    net = nn.SequentialCell(ours(3, **arguments, **kept))
    module = torch.nn.Sequential(theirs(3, **torch_arguments))
    rng = np.random.default_rng(0)
    if "track_running_stats" not in torch_arguments:
        module[0].running_mean += 3
    for partial in (False, True):
        conversion = bn3d.convert_state_dict({**module.state_dict()}, net, partial=partial)
        assert conversion.complete
        assert len(conversion.tensors) == 4
    not_loaded, _ = ms.load_param_into_net(net, conversion.tensors, strict_load=True)
    assert not not_loaded
    for training in (True, False):
        x = rng.normal(1, 2, shape).astype(np.float32)
        wanted = module.train(training)(torch.tensor(x)).detach()
        assert_close(net.set_train(training)(ms.Tensor(x)).asnumpy(), wanted, 1e-5)
    for like in (None, module, module.state_dict()):
        module.load_state_dict(bn3d.to_torch_state_dict(net, like=like).tensors, strict=True)


def test_what_a_layer_of_torch_lacks_is_reported():
    net = nn.SequentialCell(nn.BatchNorm3d(2, affine=False), nn.BatchNorm3d(2))
    module = torch.nn.Sequential(torch.nn.BatchNorm3d(2, affine=False), torch.nn.BatchNorm3d(2))
    conversion = bn3d.convert_state_dict(module.state_dict(), net)
    assert conversion.filled == {
        "0.bn2d.gamma": "1, because 0.weight is not there",
        "0.bn2d.beta": "0, because 0.bias is not there",
    }
    assert "2 filled" in conversion.summary
    back = bn3d.to_torch_state_dict(net, like=module)
    assert back.dropped == ["0.bn2d.gamma", "0.bn2d.beta"]


def test_a_trained_weight_that_is_not_there_is_missing():
    state = torch.nn.Sequential(torch.nn.BatchNorm3d(2, affine=False)).state_dict()
    with pytest.raises(bn3d.ConversionError) as error:
        bn3d.convert_state_dict(state, nn.SequentialCell(nn.BatchNorm3d(2)))
    assert set(error.value.conversion.missing) == {"0.bn2d.gamma", "0.bn2d.beta"}
    state = torch.nn.Sequential(torch.nn.BatchNorm3d(2, track_running_stats=False)).state_dict()
    with pytest.raises(bn3d.ConversionError, match=r"moving_mean: 0\.running_mean is not there"):
        bn3d.convert_state_dict(state, nn.SequentialCell(nn.BatchNorm3d(2)))


def test_a_weight_alone_may_not_be_missing():
    """PyTorch has layers without bias, and none with a bias and no weight."""
    net = nn.SequentialCell(nn.BatchNorm3d(2, affine=False))
    state = torch.nn.Sequential(torch.nn.BatchNorm3d(2)).state_dict()
    del state["0.bias"]
    assert bn3d.convert_state_dict(state, net).filled.keys() == {"0.bn2d.beta"}
    state["0.bias"] = state.pop("0.weight")
    with pytest.raises(bn3d.ConversionError, match=r"gamma: 0\.weight is not there"):
        bn3d.convert_state_dict(state, net)


def test_frozen_values_are_not_dropped():
    net = nn.SequentialCell(nn.BatchNorm3d(2, gamma_init=3), nn.BatchNorm3d(2, beta_init=1))
    bn3d.freeze(net, affine=True)
    tensors = bn3d.to_torch_state_dict(net).tensors
    assert tensors["0.weight"].tolist() == [3, 3] and "0.bias" not in tensors
    assert tensors["1.bias"].tolist() == [1, 1] and "1.weight" in tensors
    module = torch.nn.Sequential(torch.nn.BatchNorm3d(2, affine=False), torch.nn.BatchNorm3d(2))
    with pytest.raises(bn3d.ConversionError, match=r"unexpected: 0\.bn2d\.gamma"):
        bn3d.to_torch_state_dict(net, like=module)
