"""The layer in recomputation, export, `jit` and graphs that learn of their inputs late."""

import mindspore as ms
import pytest
from mindspore import Tensor, nn, ops

from support.single_layers import (
    OURS,
    SHAPE,
    STOCK,
    Around,
    InNetwork,
    assert_same,
    layer,
    moving,
    step,
    volume,
)


@pytest.fixture(params=["native", "numpy"], autouse=True)
def computed_by(request, monkeypatch):
    monkeypatch.setenv("BN3D_BACKEND", request.param)


@pytest.mark.parametrize("whole", [True, False], ids=["network", "layer"])
def test_recompute_updates_the_statistics_once(rng, mode, whole):
    x = volume(rng)
    plain, again = InNetwork(layer(OURS)), InNetwork(layer(OURS))
    (again if whole else again.norm).recompute()
    assert_same([*step(again, x), *moving(again)], [*step(plain, x), *moving(plain)], 1e-6)


class Recomputed(nn.Cell):
    """A network that `mindspore.recompute` runs, and not its cell's own flag."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def construct(self, x):
        return ms.recompute(self.net, x)


def test_recomputing_a_call_updates_the_statistics_once(rng):
    x = volume(rng)
    plain, again = InNetwork(layer(OURS)), Recomputed(InNetwork(layer(OURS)))
    assert_same([*step(again, x), *moving(again)], [*step(plain, x), *moving(plain)], 1e-6)
    again(x), plain(x)
    assert_same(moving(again), moving(plain), 1e-6)


@pytest.mark.parametrize("known_rank", [True, False])
def test_dynamic_shapes(rng, mode, known_rank):
    shape = [None, 3, None, None, None] if known_rank else None
    results = []
    volumes = [volume(rng), volume(rng, (1, 3, 2, 5, 6)), volume(rng, (4, 3, 1, 1, 2))]
    for cls in (OURS, STOCK):
        net = layer(cls)
        net.set_inputs(Tensor(shape=shape, dtype=ms.float32))
        results.append([net(x).asnumpy() for x in volumes] + moving(net))
    assert_same(*results)


def test_gradients_with_dynamic_shapes(rng):
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        net = layer(OURS)
        gradient = ops.grad(net)

        class Gradient(nn.Cell):
            def construct(self, x):
                return gradient(x)

        dynamic = Gradient()
        dynamic.set_inputs(Tensor(shape=[None, 3, None, None, None], dtype=ms.float32))
        for shape in (SHAPE, (1, 3, 2, 2, 9)):
            x = volume(rng, shape)
            assert_same([dynamic(x).asnumpy()], [ops.grad(layer(STOCK))(x).asnumpy()], 1e-6)
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)


class Counting(Around):
    """In graph mode an attribute that `construct` sets makes a value of the run of it."""

    def __init__(self, norm):
        super().__init__(norm)
        self.calls = 0

    def construct(self, x):
        self.calls = self.calls + 1
        return self.norm(x)


class Training(Around):
    def construct(self, x):
        self.norm.set_train(True)
        return self.norm(x)


class Scaling(Around):
    def construct(self, x):
        y = self.norm(x)
        return y * Tensor(y.asnumpy().max())


@pytest.mark.parametrize("network", [Counting, Training, Scaling])
@pytest.mark.parametrize("training", [True, False])
def test_inputs_whose_dtype_is_known_at_the_run_only(rng, mode, network, training):
    x = volume(rng)
    results = []
    for cls in (OURS, STOCK):
        net = network(layer(cls, training))
        results.append([net(x).asnumpy(), *step(net, x), *moving(net)])
    # The loss is a sine, here of up to 60: it multiplies the last digit of stock's float32.
    assert_same(*results, 5e-5)


def test_jit_in_pynative_mode(rng):
    net = layer(OURS)

    @ms.jit
    def run(x):
        return net(x)

    x = volume(rng)
    stock = layer(STOCK)
    assert_same([run(x).asnumpy(), *moving(net)], [stock(x).asnumpy(), *moving(stock)])


def test_export_needs_no_bn3d(rng, mode, tmp_path):
    """The file computes with MindSpore's operators: it loads where bn3d is not."""
    x = volume(rng)
    net = layer(OURS, training=False)
    ms.export(net, x, file_name=str(tmp_path / "net"), file_format="MINDIR")
    data = (tmp_path / "net.mindir").read_bytes()
    assert b"Custom" not in data
    assert b"libbn3d" not in data
    again = nn.GraphCell(ms.load(str(tmp_path / "net.mindir")))
    assert_same([again(x).asnumpy()], [net(x).asnumpy()], 1e-6)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("parallel_mode", ["semi_auto_parallel", "auto_parallel"])
def test_modes_that_split_operators_are_refused(rng, monkeypatch, parallel_mode, training):
    """MindSpore refuses these modes on a CPU, so its answer is a made-up one."""
    answers = {"parallel_mode": parallel_mode, "device_num": 2}
    monkeypatch.setattr(ms, "get_auto_parallel_context", answers.get)
    net = layer(OURS, training)
    before = moving(net)
    with pytest.raises(RuntimeError, match=f"BatchNorm3d: parallel_mode '{parallel_mode}'"):
        ms.jit(net.construct)(volume(rng))
    assert_same(moving(net), before, 0)
    answers["device_num"] = 1
    layer(OURS, training)(volume(rng))
