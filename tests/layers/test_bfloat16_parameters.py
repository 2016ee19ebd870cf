"""Parameters of bfloat16, which MindSpore's own operators take in part: right, and updated."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

import bn3d
from bn3d import reference


class Loss(nn.Cell):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def construct(self, x, dy):
        return (self.layer(x).astype(ms.float32) * dy).sum()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [ms.bfloat16, ms.float32])
def test_a_step(rng, backend, mode, training, dtype):
    layer = bn3d.BatchNorm3d(3, gamma_init=0.5)
    for parameter in layer.get_parameters():
        parameter.set_dtype(ms.bfloat16)
    x, dy = rng.integers(-4, 5, (2, 2, 3, 2, 2, 2)).astype(np.float64)
    step = ms.grad(Loss(layer).set_train(training), 0, layer.trainable_params())
    dx, (dgamma, dbeta) = step(ms.Tensor(x, dtype), ms.Tensor(dy, ms.float32))
    gamma, moving = np.full(3, 0.5), (np.zeros(3), np.ones(3))
    if training:
        want = reference.forward_training(x, gamma, np.zeros(3), *moving)
        moving = want.moving_mean, want.moving_variance
        gradients = reference.gradient_training(dy, x, gamma, want.mean, want.variance)
    else:
        gradients = reference.gradient_inference(dy, x, gamma, *moving)
    got = (dx, dgamma, dbeta, layer.bn2d.moving_mean, layer.bn2d.moving_variance)
    for found, wanted in zip(got, (*gradients, *moving), strict=True):
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(
            found.astype(ms.float32).asnumpy(), wanted, rtol=8e-3, atol=8e-3 * scale
        )
