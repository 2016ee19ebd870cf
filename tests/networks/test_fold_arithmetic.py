"""The folded weights, against float64: rounded once, in their dtype, for every kind of layer."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, mint, nn, ops

import bn3d
from bn3d.networks.fold_arithmetic import folded_weights
from support.folding import assert_folded_alike, randomized, volume


def in_float64(producer, norm):
    """Weight of a layer whose outputs come first, and bias."""
    bn = norm.bn2d
    gamma, beta, mean, variance = (
        p.asnumpy().astype(np.float64)
        for p in (bn.gamma, bn.beta, bn.moving_mean, bn.moving_variance)
    )
    scale = gamma / np.sqrt(variance + np.float64(bn.bn_train.epsilon))
    weight = producer.weight.asnumpy().astype(np.float64)
    bias = 0 if producer.bias is None else producer.bias.asnumpy().astype(np.float64)
    return weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), (bias - mean) * scale + beta


@pytest.mark.parametrize("dtype", [ms.float16, ms.float32, ms.float64], ids=str)
@pytest.mark.parametrize("has_bias", [True, False])
def test_weights_are_rounded_once(dtype, has_bias):
    pair = nn.Conv3d(16, 32, 3, has_bias=has_bias, dtype=dtype), bn3d.BatchNorm3d(32)
    randomized(nn.SequentialCell(*pair))
    for got, wanted in zip(folded_weights(*pair), in_float64(*pair), strict=True):
        assert got.dtype == dtype
        np.testing.assert_array_equal(got.asnumpy(), wanted.astype(got.asnumpy().dtype))


def test_bfloat16_is_rounded_once():
    pair = nn.Dense(64, 64, dtype=ms.bfloat16), bn3d.BatchNorm3d(64)
    randomized(nn.SequentialCell(*pair))
    for got, wanted in zip(folded_weights(*pair), in_float64(*pair), strict=True):
        assert got.dtype == ms.bfloat16
        spacing = np.exp2(np.floor(np.log2(np.abs(wanted))) - 7)
        assert (np.abs(got.asnumpy().astype(np.float64) - wanted) <= spacing / 2).all()


def test_bfloat16_is_not_rounded_by_way_of_float32():
    # Half way between two bfloat16 in float32, but just above in float64.
    producer, norm = nn.Dense(1, 1, has_bias=False, dtype=ms.bfloat16), bn3d.BatchNorm3d(1, eps=0.0)
    producer.weight.set_data(Tensor([[1.0]], ms.bfloat16))
    norm.bn2d.moving_variance.set_data(Tensor([1.0], ms.float32))
    norm.bn2d.gamma.set_data(Tensor([1 + 2.0**-8], ms.float32))
    norm.bn2d.beta.set_data(Tensor([0.0], ms.float32))
    # beta of float64, which a layer of that dtype has
    norm.bn2d.gamma = ms.Parameter(Tensor(np.array([1 + 2.0**-8 + 2.0**-40])), name="gamma")
    assert folded_weights(producer, norm).weight.asnumpy().astype(np.float64) == 1 + 2.0**-7


def test_groups_of_a_transposed_convolution_are_scaled_by_their_own_channels():
    # MindSpore 2.10 has no grouped Conv3DTranspose on a CPU: the weights are judged alone.
    pair = nn.Conv3dTranspose(4, 6, 2, group=2), bn3d.BatchNorm3d(6)
    bn = randomized(nn.SequentialCell(*pair))[1].bn2d
    before, after = pair[0].weight.asnumpy(), folded_weights(*pair).weight.asnumpy()
    scale = bn.gamma.asnumpy() / np.sqrt(bn.moving_variance.asnumpy() + 1e-5)
    for inputs in range(4):
        for outputs in range(3):
            channel = (inputs // 2) * 3 + outputs
            np.testing.assert_allclose(
                after[inputs, outputs], before[inputs, outputs] * scale[channel], rtol=1e-6
            )


def test_mint_convolutions_have_weights_as_well():
    # They have no kernel on a CPU.
    pair = mint.nn.Conv3d(4, 6, 2, groups=2), bn3d.BatchNorm3d(6)
    randomized(nn.SequentialCell(*pair))
    for got, wanted in zip(folded_weights(*pair), in_float64(*pair), strict=True):
        np.testing.assert_allclose(got.asnumpy(), wanted, rtol=1e-6)


class FromFeatures(nn.Cell):
    def __init__(self, dense, norm):
        super().__init__()
        self.dense, self.bn = dense, norm

    def construct(self, x):
        return self.bn(self.dense(x).reshape(-1, 4, 2, 3, 2))


@pytest.mark.parametrize("has_bias", [True, False])
def test_a_linear_layer_of_mint(has_bias):
    net = randomized(FromFeatures(mint.nn.Linear(5, 48, bias=has_bias), bn3d.BatchNorm3d(4)))
    assert assert_folded_alike(net, volume((3, 5))).folded == {"bn": "dense"}


@pytest.mark.parametrize("norm_dtype", [ms.float64, ms.float32], ids=str)
def test_float64_stays_float64(norm_dtype):
    norm = bn3d.BatchNorm3d(4, dtype=norm_dtype)
    net = randomized(FromFeatures(nn.Dense(5, 48, dtype=ms.float64, has_bias=False), norm))
    x = Tensor(np.random.default_rng(0).normal(size=(3, 5)))
    assert_folded_alike(net, x, tolerance=1e-14)
    assert net.dense.weight.dtype == net.dense.bias.dtype == ms.float64


@pytest.mark.parametrize("has_bias", [True, False])
def test_a_norm_of_another_dtype_leaves_that_of_the_weights(has_bias):
    conv = nn.Conv3d(2, 4, 3, has_bias=has_bias)
    net = randomized(nn.SequentialCell(conv, bn3d.BatchNorm3d(4, dtype=ms.float16)))
    assert assert_folded_alike(net, volume()).folded == {"1": "0"}
    assert conv.weight.dtype == conv.bias.dtype == ms.float32


class OnACpu(mint.nn.BatchNorm3d):
    """mint's own construct has no kernel on a CPU."""

    def construct(self, x):
        def of_channels(value):
            return value.reshape(1, -1, 1, 1, 1)

        deviation = ops.sqrt(of_channels(self.running_var) + self.eps)
        y = (x - of_channels(self.running_mean)) / deviation
        return y if self.weight is None else y * of_channels(self.weight) + of_channels(self.bias)


@pytest.mark.parametrize("arguments", [{}, {"affine": False}, {"eps": 0.1}], ids=str)
def test_layers_of_mint_that_are_not_swapped(arguments):
    net = randomized(nn.SequentialCell(nn.Conv3d(2, 4, 3), OnACpu(4, **arguments)))
    assert assert_folded_alike(net, volume()).folded == {"1": "0"}
    assert [p.name for p in net.get_parameters()] == ["0.weight", "0.bias"]


def test_the_new_bias_is_trained_only_where_the_weight_is():
    for trained in (True, False):
        net = randomized(nn.SequentialCell(nn.Conv3d(2, 4, 3), bn3d.BatchNorm3d(4)))
        for parameter in net.get_parameters():
            parameter.requires_grad = trained
        assert bn3d.fold(net, volume()).folded
        assert [p.name for p in net.trainable_params()] == ["0.weight", "0.bias"] * trained
