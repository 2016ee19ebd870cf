"""The judge itself, against PyTorch in float64 and a published example."""

import numpy as np
import pytest
import torch

from bn3d import reference

SHAPES = [(2, 3, 4, 5, 6), (1, 1, 1, 2, 1), (4, 7, 1, 1, 1), (3, 2, 1, 9, 1)]
EPS, MOMENTUM = 1e-3, 0.8


def batch(rng, shape):
    channels = shape[1]
    return {
        "x": rng.normal(3, 2, shape),
        "dy": rng.normal(size=shape),
        "gamma": rng.normal(1, 0.2, channels),
        "beta": rng.normal(size=channels),
        "mean": rng.normal(size=channels),
        "variance": rng.uniform(0.5, 2, channels),
    }


def torch_layer(data, training):
    layer = torch.nn.BatchNorm3d(data["gamma"].size, EPS, 1 - MOMENTUM, dtype=torch.float64)
    layer.train(training)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(data["gamma"]))
        layer.bias.copy_(torch.from_numpy(data["beta"]))
        layer.running_mean.copy_(torch.from_numpy(data["mean"]))
        layer.running_var.copy_(torch.from_numpy(data["variance"]))
    return layer


def torch_step(layer, data):
    x = torch.from_numpy(data["x"]).requires_grad_()
    y = layer(x)
    y.backward(torch.from_numpy(data["dy"]))
    return y.detach().numpy(), (x.grad.numpy(), layer.weight.grad.numpy(), layer.bias.grad.numpy())


def assert_all_close(got, wanted):
    for g, w in zip(got, wanted, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_training_is_pytorchs(rng, shape):
    data = batch(rng, shape)
    layer = torch_layer(data, training=True)
    y, gradients = torch_step(layer, data)

    ours = reference.forward_training(
        data["x"], data["gamma"], data["beta"], data["mean"], data["variance"], EPS, MOMENTUM
    )
    assert_all_close(
        (ours.y, ours.moving_mean, ours.moving_variance),
        (y, layer.running_mean.numpy(), layer.running_var.numpy()),
    )
    assert_all_close(
        reference.gradient_training(
            data["dy"], data["x"], data["gamma"], ours.mean, ours.variance, EPS
        ),
        gradients,
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_inference_is_pytorchs(rng, shape):
    data = batch(rng, shape)
    y, gradients = torch_step(torch_layer(data, training=False), data)
    moving = data["mean"], data["variance"], EPS
    assert_all_close(
        [reference.forward_inference(data["x"], data["gamma"], data["beta"], *moving)], [y]
    )
    assert_all_close(
        reference.gradient_inference(data["dy"], data["x"], data["gamma"], *moving), gradients
    )


def test_the_four_operators_on_numbers_done_by_hand():
    x = np.array([[1.0, 2.0], [10.0, 14.0]]).reshape(1, 2, 1, 1, 2)
    dy = np.array([[1.0, -1.0], [2.0, 3.0]]).reshape(1, 2, 1, 1, 2)
    assert_all_close(reference.reduce(x, [1, 10]), ([1, 4], [1, 16]))
    assert reference.apply(x, [1, 10], [2, 3], [5, 6]).ravel().tolist() == [5, 7, 6, 18]
    assert_all_close(reference.grad_reduce(dy, x, [1, 10]), ([0, 5], [-1, 12]))
    dx = reference.grad_apply(dy, x, [1, 10], [1, 2], [10, 1], [100, 0])
    assert dx.ravel().tolist() == [101, 109, 4, 10]


def test_a_mean_far_away_costs_no_digits(rng):
    x = rng.integers(-8, 9, (2, 1, 4, 4, 4)) / 8
    mean, variance = reference.batch_statistics(x + 2.0**40)
    np.testing.assert_allclose(mean - 2.0**40, [x.mean()], atol=1e-3)
    np.testing.assert_allclose(variance, [x.var()], rtol=1e-12)


def test_one_value_a_channel_leaves_the_moving_variance():
    result = reference.forward_training(np.full((1, 1, 1, 1, 1), 7.0), [2], [3], [1], [4])
    assert result.y.item() == 3
    assert result.moving_mean.item() == pytest.approx(0.9 * 1 + 0.1 * 7)
    assert result.moving_variance.item() == 4


def test_an_empty_batch_leaves_both_moving_statistics():
    result = reference.forward_training(np.empty((0, 2, 1, 1, 1)), [1, 1], [0, 0], [1, 2], [3, 4])
    assert result.y.shape == (0, 2, 1, 1, 1)
    assert result.moving_mean.tolist() == [1, 2]
    assert result.moving_variance.tolist() == [3, 4]


def test_a_volume_of_another_rank_is_refused():
    with pytest.raises(ValueError, match=r"5 dimensions.*\(2, 3\)"):
        reference.reduce(np.zeros((2, 3)), np.zeros(3))
