"""`bn3d.BatchNorm3d` against stock MindSpore and the judge, in both execution modes."""

import copy
import inspect
import pickle

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.nn.utils import no_init_parameters

import bn3d
from bn3d import reference
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


def test_the_constructor_is_stocks():
    def arguments(cls):
        parameters = inspect.signature(cls.__init__).parameters
        return [(p.name, p.default) for p in parameters.values()]

    assert arguments(OURS) == arguments(STOCK)


def test_the_cells_and_parameters_are_stocks():
    ours, stock = OURS(3), STOCK(3)
    assert isinstance(ours, STOCK)
    assert isinstance(ours.bn2d, nn.BatchNorm2d)
    described = [
        [(p.name, p.shape, p.dtype, p.requires_grad) for p in c.get_parameters()]
        for c in (ours, stock)
    ]
    assert described[0] == described[1]
    assert [n for n, _ in ours.cells_and_names()] == [n for n, _ in stock.cells_and_names()]


@pytest.mark.parametrize("use_batch_statistics", [True, False, None])
@pytest.mark.parametrize("training", [True, False, "never set"])
def test_the_states(rng, mode, use_batch_statistics, training):
    x = volume(rng)
    results = []
    for cls in (OURS, STOCK):
        net = cls(3, use_batch_statistics=use_batch_statistics)
        if training != "never set":
            net.set_train(training)
        results.append([net(x).asnumpy(), *moving(net), *step(net, x), *moving(net)])
    assert_same(*results)


def test_the_published_example(mode):
    """MindSpore's page on the differences to PyTorch."""
    x = np.array([[[[[0.1, 0.2], [0.3, 0.4]]], [[[0.9, 1], [1.1, 1.2]]]]], np.float32)
    y = OURS(2).set_train()(Tensor(x)).asnumpy()
    np.testing.assert_allclose(y.ravel(), [-1.3411, -0.44703, 0.44703, 1.3411] * 2, rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("parameter_dtype", [ms.float32, ms.float16])
def test_dtypes_that_stock_takes(rng, mode, dtype, parameter_dtype):
    x = volume(rng, dtype=dtype)
    y = [cls(3, dtype=parameter_dtype).set_train()(x).asnumpy() for cls in (OURS, STOCK)]
    assert_same([y[0]], [y[1]], 1e-3 if dtype == np.float16 else 1e-6)


@pytest.mark.parametrize("dtype", [ms.bfloat16, ms.float64])
def test_dtypes_that_stock_refuses(rng, mode, dtype):
    x = volume(rng).astype(dtype)
    net = layer(OURS)
    y = net(x)
    assert y.dtype == dtype
    wide = x.astype(ms.float32).asnumpy() if dtype == ms.bfloat16 else x.asnumpy()
    wanted = reference.forward_training(wide, [1, 0.5, 2], [0] * 3, [0] * 3, [1] * 3)
    got = y.astype(ms.float64).asnumpy()
    np.testing.assert_allclose(got, wanted.y, rtol=0, atol=0.02 if dtype == ms.bfloat16 else 1e-12)
    assert_same(moving(net), [wanted.moving_mean.astype("f"), wanted.moving_variance.astype("f")])


def test_float16_parameters_are_updated(rng, mode):
    """Stock casts them first and updates the copies."""
    x = volume(rng)
    net = OURS(3, dtype=ms.float16).set_train()
    net(x)
    wanted = reference.forward_training(x.asnumpy(), [1] * 3, [0] * 3, [0] * 3, [1] * 3)
    np.testing.assert_allclose(moving(net)[0], wanted.moving_mean, rtol=2e-3)
    np.testing.assert_allclose(moving(net)[1], wanted.moving_variance, rtol=2e-3)


def test_one_value_a_channel(mode):
    net = layer(OURS, beta_init=Tensor(np.array([1, 2, 3], np.float32)))
    y = net(Tensor(np.full((1, 3, 1, 1, 1), 5, np.float32)))
    assert y.asnumpy().ravel().tolist() == [1, 2, 3]
    np.testing.assert_allclose(moving(net)[0], [0.5] * 3, rtol=1e-6)
    assert moving(net)[1].tolist() == [1, 1, 1]


def test_an_empty_batch(mode):
    net = layer(OURS)
    assert net(Tensor(np.empty((0, 3, 1, 2, 1), np.float32))).shape == (0, 3, 1, 2, 1)
    assert moving(net)[0].tolist() == [0, 0, 0]
    assert moving(net)[1].tolist() == [1, 1, 1]


@pytest.mark.parametrize("training", [True, False])
def test_the_gradients_of_an_empty_batch(rng, mode, backend, training):
    net = layer(OURS, training)
    step(net, volume(rng))  # leaves values in the memory that the next step gets
    _, dx, *gradients = step(net, Tensor(np.empty((0, 3, 1, 2, 1), np.float32)))
    assert dx.shape == (0, 3, 1, 2, 1)
    assert [g.tolist() for g in gradients] == [[0, 0, 0], [0, 0, 0]]


class Twice(Around):
    """A layer that is used twice in one step."""

    def construct(self, x):
        return self.norm(x) + self.norm(x * 2)


def test_a_layer_used_twice_in_a_step(rng, mode):
    x = volume(rng)
    results = []
    for cls in (OURS, STOCK):
        net = Twice(layer(cls))
        results.append([*step(net, x), *moving(net)])
    assert_same(*results)


def test_gradient_accumulation(rng, mode):
    """Two backward passes, one optimizer step: the gradients add up."""
    volumes = [volume(rng), volume(rng)]
    results = []
    for cls in (OURS, STOCK):
        net = InNetwork(layer(cls))
        parts = [step(net, x) for x in volumes]
        results.append([a + b for a, b in zip(*parts, strict=True)] + moving(net))
    assert_same(*results)


def test_vmap(rng):
    x = volume(rng, (4, *SHAPE))
    results = [[ops.vmap(layer(cls, training=False))(x).asnumpy()] for cls in (OURS, STOCK)]
    assert_same(*results)


def test_inputs_that_are_views(rng, mode):
    def permuted(x):
        return x.permute(0, 4, 1, 2, 3)

    last = volume(rng, (2, 4, 5, 6, 3))
    wider = volume(rng, (2, 5, 4, 5, 6))
    results = [
        [layer(c)(permuted(last)).asnumpy(), layer(c)(wider[:, 1:4]).asnumpy()]
        for c in (OURS, STOCK)
    ]
    assert_same(*results)


def test_hooks(rng):
    net, seen = layer(OURS), []
    net.register_forward_hook(lambda cell, inputs, output: seen.append("forward"))
    net.register_backward_hook(lambda cell, dx, dy: seen.append("backward"))
    ops.grad(net)(volume(rng))
    assert seen == ["forward", "backward"]


def test_flags_that_change_later_count(rng, mode):
    x = volume(rng)
    results = []
    for cls in (OURS, STOCK):
        net = layer(cls)
        outputs = [net(x).asnumpy()]
        net.bn2d.use_batch_statistics = False
        outputs.append(net(x).asnumpy())
        net.bn2d.use_batch_statistics = None
        net.bn2d.set_train(False)
        outputs.append(net(x).asnumpy())
        net.bn2d.gamma.requires_grad = False
        assert [p.name for p in net.trainable_params()] == ["bn2d.beta"]
        results.append(outputs + moving(net))
    assert_same(*results)


def test_eps_and_momentum_are_fixed_at_construction(rng):
    x = volume(rng)
    net, stock = layer(OURS), layer(STOCK)
    for other in (net, stock):
        other.bn2d.eps = other.bn2d.momentum = other.momentum = 0.5
    assert_same([net(x).asnumpy(), *moving(net)], [stock(x).asnumpy(), *moving(stock)])


@pytest.mark.parametrize("cls", [bn3d.BatchNorm3d, bn3d.SyncBatchNorm3d])
@pytest.mark.parametrize("inserted", [False, True])
def test_another_child_brings_its_settings(rng, inserted, cls):
    x = volume(rng)
    net, stock = (kind(x.shape[1]).set_train() for kind in (cls, nn.BatchNorm3d))
    for other in (net, stock):
        child = nn.BatchNorm2d(x.shape[1], eps=0.5, momentum=0.5).set_train()
        if inserted:
            other.insert_child_to_cell("bn2d", child)
        else:
            other.bn2d = child
    assert_same([net(x).asnumpy(), *moving(net)], [stock(x).asnumpy(), *moving(stock)])
    twin = copy.deepcopy(net)
    assert_same([twin(x).asnumpy(), *moving(twin)], [stock(x).asnumpy(), *moving(stock)])


def test_another_child_has_to_be_a_batch_norm():
    net = bn3d.BatchNorm3d(3)
    child = net.bn2d
    with pytest.raises(TypeError, match=r"'bn2d' must be a .*BatchNorm2d, got Identity"):
        net.bn2d = nn.Identity()
    assert net.bn2d is child


def test_construct_called_directly(rng):
    x = volume(rng)
    assert_same([layer(OURS).construct(x).asnumpy()], [layer(STOCK).construct(x).asnumpy()])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_are_independent_and_equal(rng, mode, copied):
    x = volume(rng)
    net = layer(OURS, eps=1e-2, momentum=0.7)
    net(x)
    twin = copied(net)
    assert twin.training and twin.bn2d.training
    assert_same(moving(twin), moving(net), 0)
    before = moving(net)
    y = twin(x).asnumpy()
    assert_same(moving(net), before, 0)
    assert_same([net(x).asnumpy(), *moving(net)], [y, *moving(twin)], 0)


@pytest.mark.parametrize("file_format", ["ckpt", "safetensors"])
@pytest.mark.parametrize("saving, loading", [(OURS, STOCK), (STOCK, OURS)])
def test_checkpoints(rng, tmp_path, saving, loading, file_format):
    x = volume(rng)
    saved, loaded = layer(saving), layer(loading)
    saved(x)
    path = str(tmp_path / f"net.{file_format}")
    ms.save_checkpoint(saved, path, format=file_format)
    missing, _ = ms.load_param_into_net(
        loaded, ms.load_checkpoint(path, format=file_format), strict_load=True
    )
    assert missing == []
    saved.set_train(False), loaded.set_train(False)
    assert_same([loaded(x).asnumpy()], [saved(x).asnumpy()], 1e-6)


def swapped(channels):
    net = STOCK(channels)
    bn3d.swap(net)
    return net


@pytest.mark.parametrize("build", [OURS, swapped], ids=["ours", "swapped"])
def test_parameters_that_get_their_values_at_the_first_call(rng, mode, backend, build):
    """MindSpore does that as it calls the cell whose they are, and bn2d is never called."""
    x = volume(rng)
    results = []
    for cls in (build, STOCK):
        with no_init_parameters():
            net = cls(3)
        net.set_train()
        results.append([net(x).asnumpy(), *moving(net)])
    assert_same(*results)


def test_instance_norm_use(rng, mode):
    x = volume(rng, (1, 1000, 2, 3, 4))
    results = [[cls(1000).set_train()(x).asnumpy()] for cls in (OURS, STOCK)]
    assert_same(*results)


@pytest.mark.parametrize(
    "arguments, error, names",
    [
        ({"num_features": 0}, ValueError, "'num_features'.*at least 1.*0"),
        ({"num_features": 2.0}, TypeError, "'num_features'.*int.*2.0"),
        ({"num_features": True}, TypeError, "'num_features'.*int.*True"),
        ({"eps": -1e-5}, ValueError, "'eps'.*not negative.*-1e-05"),
        ({"eps": float("nan")}, ValueError, "'eps'.*finite.*nan"),
        ({"eps": float("inf")}, ValueError, "'eps'.*finite.*inf"),
        ({"eps": "1e-5"}, TypeError, "'eps'.*number.*str"),
        ({"eps": None}, TypeError, "'eps'.*number.*None"),
        ({"momentum": 1.5}, ValueError, "'momentum'.*0 to 1.*1.5"),
        ({"momentum": float("nan")}, ValueError, "'momentum'.*0 to 1.*nan"),
        ({"momentum": "0.9"}, TypeError, "'momentum'.*number.*str"),
        ({"momentum": True}, TypeError, "'momentum'.*number.*True"),
        ({"eps": True}, TypeError, "'eps'.*number.*True"),
        ({"eps": np.True_}, TypeError, "'eps'.*number.*True"),
        ({"momentum": np.bool_(0)}, TypeError, "'momentum'.*number.*False"),
        ({"gamma_init": True}, TypeError, "'gamma_init'.*number.*True"),
        ({"moving_var_init": False}, TypeError, "'moving_var_init'.*number.*False"),
        ({"momentum": None}, TypeError, "'momentum'.*None.*cumulative average"),
        ({"affine": 1}, TypeError, "'affine'.*bool.*1"),
        ({"use_batch_statistics": 1}, TypeError, "'use_batch_statistics'.*bool or None.*1"),
        ({"dtype": ms.int32}, TypeError, "'dtype'.*floating"),
    ],
)
def test_wrong_arguments(arguments, error, names):
    with pytest.raises(error, match=f"BatchNorm3d: {names}"):
        OURS(**{"num_features": 3, **arguments})


@pytest.mark.parametrize("argument", [{"eps": 0.0}, {"eps": 1}, {"momentum": 1}, {"momentum": 0}])
def test_arguments_that_stock_takes_too(argument):
    OURS(3, **argument)


@pytest.mark.parametrize(
    "shape, dtype, error, says",
    [
        ((2, 3, 4, 5), np.float32, ValueError, r"5 dimensions \(N, C, D, H, W\).*\(2, 3, 4, 5\)"),
        ((2, 4, 1, 1, 1), np.float32, ValueError, "num_features = 3 channels, got 4"),
        (
            SHAPE,
            np.int32,
            TypeError,
            "a Tensor of float32.*, got .*int32",
        ),
        (
            SHAPE,
            np.bool_,
            TypeError,
            "a Tensor of float32.*, got .*bool",
        ),
    ],
)
def test_wrong_inputs(mode, shape, dtype, error, says):
    net = layer(OURS)
    with pytest.raises(error, match=f"BatchNorm3d: x must (have|be) {says}"):
        net(Tensor(np.ones(shape, dtype)))
    assert moving(net)[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("x", "kind"),
    [(np.ones(SHAPE, np.float32), "<class 'numpy.ndarray'>"), (3, "<class 'int'>")],
)
def test_an_input_that_is_no_tensor(mode, x, kind):
    with pytest.raises(TypeError, match=rf"BatchNorm3d: x must be a Tensor .* got {kind}(\s|$)"):
        layer(OURS)(x)
