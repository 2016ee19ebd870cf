"""Small networks around a layer of three channels, and what a training step gives."""

import inspect

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

import bn3d

STOCK, OURS = nn.BatchNorm3d, bn3d.BatchNorm3d
SHAPE = (2, 3, 4, 5, 6)
GAMMA = np.array([1, 0.5, 2])


def volume(rng, shape=SHAPE, dtype=np.float32):
    return Tensor(rng.normal(2, 3, shape).astype(dtype))


def layer(cls, training=True, **arguments):
    built = cls(3, gamma_init=Tensor(GAMMA.astype(np.float32)), **arguments)
    return built.set_train(training)


def moving(net):
    """Copies: asnumpy() shares memory with the parameter."""
    return [p.asnumpy().copy() for p in net.get_parameters() if "moving" in p.name]


class Around(nn.Cell):
    """Holds a layer; its subclasses use it."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm


class InNetwork(nn.Cell):
    """A layer with neighbours, as mixed precision and recomputation expect."""

    def __init__(self, norm):
        super().__init__()
        self.conv = nn.Conv3d(
            3, 3, 1, weight_init=Tensor(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1, 1))
        )
        self.norm = norm
        self.relu = nn.ReLU()

    def construct(self, x):
        return self.relu(self.norm(self.conv(x)))


def step(net, x):
    """Loss, dx and the parameters' gradients."""
    weights = net.trainable_params()

    def loss(x):
        return ops.sin(net(x).astype(ms.float32) + 1).sum()

    value, (dx, gradients) = ms.value_and_grad(loss, 0, weights)(x)
    return [value.asnumpy(), dx.asnumpy(), *[g.asnumpy() for g in gradients]]


def assert_same(got, wanted, tolerance=1e-5):
    """Equal dtypes, and values within `tolerance` of the largest."""
    assert len(got) == len(wanted)
    for g, w in zip(got, wanted, strict=True):
        assert g.dtype == w.dtype
        scale = max(np.abs(w.astype(float)).max(initial=0), 1)
        np.testing.assert_allclose(g, w, rtol=0, atol=tolerance * scale)


def ways_to_recompute():
    """Names of ways, and for each the arguments of `Cell.recompute` that this MindSpore takes."""
    taken = inspect.signature(nn.Cell.recompute).parameters
    ways = {
        "reentrant": {},
        # Otherwise it stops before the layer's last operator.
        "not reentrant": {"use_reentrant": False, "early_stop": False},
        "output": {"output_recompute": True},
    }
    if "use_reentrant" not in taken:  # before 2.8
        return {"reentrant": {}}
    return {
        way: {name: value for name, value in arguments.items() if name in taken}
        for way, arguments in ways.items()
    }
