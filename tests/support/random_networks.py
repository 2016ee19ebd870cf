"""Random small networks for `bn3d.fold`, of which it is known what may be folded.

Stages follow each other; each has a linear layer, a batch norm, and a manner in which its
`construct` runs them, drawn from those that let others read what is between, or the weights, and
those that do not.
"""

from __future__ import annotations

import random

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

import bn3d

__all__ = ["RandomNetwork", "volume"]

SHAPE = (2, 2, 3, 3, 3)

# Nobody else reads what is between.


def plainly(stage, x):
    return stage.bn(stage.linear(x))


def by_keyword(stage, x):
    return stage.bn(x=stage.linear(x=x))


def twice(stage, x):
    return stage.bn(stage.linear(x)) + stage.bn(stage.linear(-x))


def with_its_shape(stage, x):
    y = stage.linear(x)
    return stage.bn(y) * y.ndim


def unused(stage, x):
    y = stage.linear(x)
    _ = (y * 2).sum()
    return stage.bn(y)


def reshaped(stage, x):
    y = stage.linear(x)
    return stage.bn(y.reshape(-1, *y.shape[1:]))


def through_a_closure(stage, x):
    def run(layers):
        return layers["bn"](layers["conv"](x))

    return run({"conv": stage.linear, "bn": stage.bn})


def dropped_out(stage, x):
    return stage.bn(stage.dropout(stage.linear(x)))


def by_steps(stage, x):
    for layer in [stage.linear, stage.bn]:
        x = layer(x)
    return x


def along_a_gradient(stage, x):
    return x - 0.1 * ms.grad(lambda x: (stage.bn(stage.linear(x)) ** 2).mean())(x)


def under_jit(stage, x):
    return stage.compiled(x)


HARMLESS = [plainly, by_keyword, twice, with_its_shape, unused, reshaped, through_a_closure]
HARMLESS += [dropped_out, by_steps, along_a_gradient, under_jit]

# Somebody does.


def added(stage, x):
    y = stage.linear(x)
    return stage.bn(y) + y


def added_by_a_whisker(stage, x):
    y = stage.linear(x)
    return stage.bn(y) + 1e-9 * y


def activated_between(stage, x):
    return stage.bn(ops.relu(stage.linear(x)))


def clipped_between(stage, x):
    return stage.bn(ops.clip(stage.linear(x), -100.0, 100.0))


def run_again(stage, x):
    return stage.bn(stage.linear(x)) + stage.linear(2 * x)


def normed_alone(stage, x):
    return stage.bn(stage.linear(x)) + stage.bn(x)


def kept(stage, x):
    y = stage.linear(x)
    stage.seen.append(y)
    return stage.bn(y)


def kept_as_a_number(stage, x):
    y = stage.linear(x)
    stage.largest = float(y.asnumpy().max())
    return stage.bn(y)


def by_its_place(stage, x):
    y = stage.linear(x)
    return stage.bn(y) * (1 + ops.argmax(y.reshape(-1)))


def one_element(stage, x):
    y = stage.linear(x)
    return stage.bn(y) + ops.abs(y[0, -1, 0, 0, 0])


def written_into(stage, x):
    y = stage.linear(x)
    y[0, 0] = 0
    return stage.bn(y)


def by_its_weight(stage, x):
    return stage.bn(stage.linear(x)) + 1e-6 * ops.square(stage.conv.weight).sum()


def by_gamma(stage, x):
    return stage.bn(stage.linear(x)) * sum(p.sum() for p in stage.bn.get_parameters())


def by_a_weights_gradient(stage, x):
    def loss(x):
        return (stage.bn(stage.linear(x)) ** 2).mean()

    return x + ms.grad(loss, None, (stage.conv.weight,))(x)[0].sum()


def caught(stage, x):
    y = stage.linear(x)
    try:
        return stage.bn(y)
    finally:
        stage.seen.append(float(y.asnumpy()[0, 0, 0, 0, 0]))


READ = [added, added_by_a_whisker, activated_between, clipped_between, run_again, normed_alone]
READ += [kept, kept_as_a_number, by_its_place, one_element, written_into, by_its_weight, by_gamma]
READ += [by_a_weights_gradient, caught]


LINEAR = [
    lambda: nn.Conv3d(2, 2, 3),
    lambda: nn.Conv3d(2, 2, 1, has_bias=True),
    lambda: nn.Conv3d(2, 2, 3, group=2, has_bias=True),
    lambda: nn.Conv3d(2, 2, 3, pad_mode="pad", padding=2, dilation=2),
    lambda: nn.Conv3dTranspose(2, 2, 3),
    lambda: nn.Conv3dTranspose(2, 2, 3, has_bias=True),
    lambda: nn.Dense(54, 54),
    lambda: nn.Dense(54, 54, has_bias=False),
]
NORMS = [
    bn3d.BatchNorm3d,
    nn.BatchNorm3d,
    lambda channels: nn.BatchNorm3d(channels, use_batch_statistics=False),
    lambda channels: bn3d.BatchNorm3d(channels, eps=0.1),
]


class Stage(nn.Cell):
    def __init__(self, chosen):
        super().__init__()
        self.conv, self.bn = chosen.choice(LINEAR)(), chosen.choice(NORMS)(2)
        self.dropout, self.seen = nn.Dropout(p=0.5), []
        self.is_read = chosen.random() < 0.4
        self.manner = chosen.choice(READ if self.is_read else HARMLESS)
        if chosen.random() < 0.15:
            self.recompute()

    def linear(self, x):
        if isinstance(self.conv, nn.Dense):
            return self.conv(x.reshape(len(x), -1)).reshape(x.shape)
        return self.conv(x)

    @ms.jit
    def compiled(self, x):
        return self.bn(self.linear(x))

    def construct(self, x):
        return self.manner(self, x)


class RandomNetwork(nn.Cell):
    """A network for each seed.

    Attributes:
        may_be_folded: names of the batch norm layers that nobody else reads.
    """

    def __init__(self, seed):
        super().__init__()
        chosen, numbers = random.Random(seed), np.random.default_rng(seed)
        self.stages = nn.CellList([Stage(chosen) for _ in range(chosen.randint(1, 4))])
        self.skips = [chosen.random() < 0.3 for _ in self.stages]
        self.gives_all = chosen.random() < 0.2
        for p in self.get_parameters():
            low, high = (0.5, 2) if p.name.endswith(("gamma", "variance")) else (-0.7, 0.7)
            p.set_data(Tensor(numbers.uniform(low, high, p.shape), p.dtype))
        self.set_train(False)
        if chosen.random() < 0.5:
            bn3d.swap(self)
        self.may_be_folded = {
            f"stages.{i}.bn" for i, stage in enumerate(self.stages) if not stage.is_read
        }

    def construct(self, x):
        given = []
        for stage, skips in zip(self.stages, self.skips, strict=True):
            y = ops.tanh(stage(x))
            x = x + y if skips else y
            given.append(x)
        return given if self.gives_all else x

    def __str__(self):
        return ", ".join(stage.manner.__name__ for stage in self.stages)


def volume(seed):
    return Tensor(np.random.default_rng(seed).normal(0.3, 1, SHAPE).astype(np.float32))
