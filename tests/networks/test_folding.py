"""`bn3d.fold`: the same outputs without batch norm; what is unclear is left and reported."""

from __future__ import annotations

import copy
import subprocess
import sys
import textwrap

import mindspore as ms
import numpy as np
import pytest
from mindspore import amp, mint, nn, ops

import bn3d
from bn3d.networks import folding
from support import networks
from support.folding import assert_folded_alike, randomized, volume


def conv(inputs=2, outputs=4, **arguments):
    return nn.Conv3d(inputs, outputs, 3, **arguments)


PRODUCERS = {
    "conv3d": conv,
    "conv3d with bias": lambda: conv(has_bias=True),
    "grouped conv3d": lambda: conv(group=2),
    "strided, padded, dilated": lambda: conv(stride=2, pad_mode="pad", padding=2, dilation=2),
    "transposed": lambda: nn.Conv3dTranspose(2, 4, 2, stride=2),
    "transposed with bias": lambda: nn.Conv3dTranspose(2, 4, 3, has_bias=True),
}
NORMS = {
    "ours": bn3d.BatchNorm3d,
    "ours, another eps": lambda c: bn3d.BatchNorm3d(c, eps=0.1),
    "stock": nn.BatchNorm3d,
    "frozen": lambda c: nn.BatchNorm3d(c, use_batch_statistics=False),
}


@pytest.mark.parametrize("producer", PRODUCERS.values(), ids=PRODUCERS)
@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_the_output_is_the_same(producer, norm):
    net = randomized(nn.SequentialCell(producer(), norm(4), nn.ReLU()))
    report = assert_folded_alike(net, volume((2, 2, 5, 6, 7)))
    assert report.folded == {"1": "0"}
    assert [p.name for p in net.get_parameters()] == ["0.weight", "0.bias"]


class Written(nn.Cell):
    """A network whose construct is given by the test."""

    def __init__(self, producer=None, norm=None):
        super().__init__()
        self.conv = producer or conv()
        self.bn = norm or bn3d.BatchNorm3d(4)
        self.relu, self.depth, self.height = nn.ReLU(), 2, 3


class Nested(Written):
    def construct(self, x):
        return self.relu(self.bn(self.conv(x)))


class Statements(Written):
    def construct(self, x):
        x = self.conv(x)
        x = self.bn(x)
        return self.relu(x)


class OtherName(Written):
    def construct(self, x):
        y = self.conv(x)
        z = self.relu(self.bn(y))
        return z.mean()


class InABranch(Written):
    def construct(self, x):
        if x.ndim == 5:
            y = self.conv(x)
            return self.bn(y)
        return x


class AskedForPlainly(Written):
    def construct(self, x):
        if self.bn is not None:
            return self.bn(self.conv(x))
        return x


class LoopOverLayers(Written):
    def construct(self, x):
        for layer in (self.conv, self.bn):
            x = layer(x)
        return x


@pytest.mark.parametrize(
    "kind", [Nested, Statements, OtherName, InABranch, AskedForPlainly, LoopOverLayers]
)
def test_what_is_written_clearly_is_folded(kind):
    net = randomized(kind())
    assert assert_folded_alike(net, volume((2, 2, 5, 6, 7))).folded == {"bn": "conv"}


class SeenElsewhere(Written):
    def construct(self, x):
        y = self.conv(x)
        z = self.bn(y)
        return z + y


class CarriedByALoop(Written):
    def construct(self, x):
        total = ops.zeros_like(x[:, :1])
        y = x
        for _ in range(2):
            total = total + y.mean(1, True)
            y = self.conv(x)
            z = self.bn(y)
            total = total + z.mean(1, True)
        return total


class SomethingBetween(Written):
    def construct(self, x):
        x = self.conv(x)
        x = self.relu(x)
        return self.bn(x)


class NormFirst(Written):
    def __init__(self):
        super().__init__(norm=bn3d.BatchNorm3d(2))

    def construct(self, x):
        return self.conv(self.bn(x))


class ConvTwice(Written):
    def construct(self, x):
        return self.bn(self.conv(x)) + self.conv(x)


class NormTwice(Written):
    def construct(self, x):
        return self.bn(self.bn(self.conv(x)))


class HiddenUse(Written):
    def construct(self, x):
        return self.bn(self.conv(x)) + self.extra(x)

    def extra(self, x):
        return self.conv(x)


class SecondName(Written):
    def __init__(self):
        super().__init__()
        self.again = self.conv

    def construct(self, x):
        return self.bn(self.conv(x)) + self.again(x)


class ReshapedConv(Written):
    def __init__(self):
        super().__init__(conv(2, 8))

    def construct(self, x):
        return self.bn(self.conv(x).reshape(-1, 4, 2, 6, 35))


class InList(nn.Cell):
    """Layers in a CellList, in the way that a subclass runs them."""

    def __init__(self):
        super().__init__()
        self.bn = bn3d.BatchNorm3d(4)  # the CellList below comes second, with the same layer
        self.layers = nn.CellList([conv(), self.bn, nn.ReLU()])
        del self._cells["bn"]


class ListAsChain(InList):
    def construct(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class ListWithFeatures(InList):
    def construct(self, x):
        features = []
        for layer in self.layers:
            x = layer(x)
            features.append(x.mean())
        return features[0] + features[1]


class ListByIndex(InList):
    def construct(self, x):
        y = self.layers[0](x)
        return self.layers[1](y) + y


class SequentialWithFeatures(InList):
    def __init__(self):
        super().__init__()
        self.layers = nn.SequentialCell(*self.layers)

    def construct(self, x):
        features = []
        for layer in self.layers:
            x = layer(x)
            features.append(x.mean())
        return features[0] + features[1]


class SequentialOpened(SequentialWithFeatures):
    def construct(self, x):
        return self.layers(x).mean() + self.layers[0](x).mean()


class Inner(Written):
    def construct(self, x):
        return self.bn(self.conv(x))


class ReachedFromOutside(nn.Cell):
    def __init__(self):
        super().__init__()
        self.inner = Inner()

    def construct(self, x):
        return self.inner(x) + self.inner.conv(x)


class BlocksInAList(nn.Cell):
    """A list of SequentialCells, each called as a whole, with what comes out of each kept."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.CellList(
            [nn.SequentialCell(conv(2, 4), bn3d.BatchNorm3d(4)) for _ in range(2)]
        )

    def construct(self, x):
        total = 0
        for block in self.blocks:
            total = total + block(x).mean()
        return total


class BlocksOpened(BlocksInAList):
    def construct(self, x):
        total = 0
        for block in self.blocks:
            for layer in block:
                x = layer(x)
                total = total + x.mean()
            x = x[:, :2]
        return total


class EndsOfSequentials(Written):
    """The convolution ends one SequentialCell, the batch norm begins another."""

    def __init__(self):
        super().__init__()
        self.before = nn.SequentialCell(nn.ReLU(), nn.SequentialCell(conv()))
        self.after = nn.SequentialCell(bn3d.BatchNorm3d(4), nn.ReLU())

    def construct(self, x):
        return self.after(self.before(x))


class EndOfASharedSequential(EndsOfSequentials):
    def construct(self, x):
        return self.after(self.before(x)) + self.before(x)


@pytest.mark.parametrize(
    ("kind", "folded"),
    [
        (ListAsChain, 1),
        (ListWithFeatures, 0),
        (ListByIndex, 0),
        (SequentialWithFeatures, 0),
        (SequentialOpened, 0),
        (ReachedFromOutside, 0),
        (BlocksInAList, 2),
        (BlocksOpened, 0),
        (EndsOfSequentials, 1),
        (EndOfASharedSequential, 0),
    ],
)
def test_containers_are_folded_only_where_no_one_looks_inside(kind, folded):
    report = assert_folded_alike(randomized(kind()), volume((2, 2, 5, 6, 7)))
    assert len(report.folded) == folded
    norms = 2 if kind in (BlocksInAList, BlocksOpened) else 1
    assert len(report.left) >= norms - folded


NOTICED = "'conv' is read elsewhere: a decoy changes what the network gives"
OTHERS = "its input is not the unchanged output of a Conv3d, Conv3dTranspose, Dense or Linear"
UNCLEAR = {
    SeenElsewhere: NOTICED,
    CarriedByALoop: NOTICED,
    SomethingBetween: OTHERS,
    NormFirst: OTHERS,
    ConvTwice: NOTICED,
    NormTwice: OTHERS,
    HiddenUse: NOTICED,
    SecondName: NOTICED,
    ReshapedConv: "it has 4 channels, the layer before it gives 8",
}


@pytest.mark.parametrize(("kind", "reason"), UNCLEAR.items())
def test_what_is_unclear_is_left_and_reported(kind, reason):
    net = randomized(kind())
    before = {p.name: p.asnumpy().copy() for p in net.get_parameters()}
    report = assert_folded_alike(net, volume((2, 2, 5, 6, 7)), tolerance=0)
    assert not report.folded
    assert reason in report.left["bn"]
    assert "left: bn: " in str(report)
    for p in net.get_parameters():
        np.testing.assert_array_equal(p.asnumpy(), before[p.name])


def sequential(norm=None, producer=None):
    return nn.SequentialCell(producer or conv(), norm or bn3d.BatchNorm3d(4))


def with_hook():
    net = sequential()
    net[0].register_forward_hook(lambda cell, inputs, output: None)
    return net


def tied_weight():
    net = nn.SequentialCell(conv(2, 2), bn3d.BatchNorm3d(2), conv(2, 2))
    net[2].weight = net[0].weight
    return net


class Doubled(nn.Conv3d):
    def construct(self, x):
        return super().construct(x) * 2


LEFT = {
    "by the batch always": (
        lambda: sequential(bn3d.BatchNorm3d(4, use_batch_statistics=True)),
        "normalises by the batch always",
    ),
    "hooks": (with_hook, "has hooks"),
    "tied weight": (tied_weight, "shares its weight"),
    "own construct": (lambda: sequential(producer=Doubled(2, 4, 3)), "gives something else"),
}


@pytest.mark.parametrize(("build", "reason"), LEFT.values(), ids=LEFT)
def test_what_cannot_be_folded_is_left(build, reason):
    report = assert_folded_alike(randomized(build()), volume(), tolerance=0)
    assert not report.folded
    assert reason in report.left["1"]


def test_training_mode_is_left():
    report = bn3d.fold(sequential().set_train(), volume())
    assert "net.set_train(False) first" in report.left["1"]


def test_weights_that_would_overflow_are_left():
    net = randomized(sequential())
    net[0].weight.set_data(ms.Tensor(np.full(net[0].weight.shape, 1e20, np.float32)))
    net[1].bn2d.gamma.set_data(ms.Tensor(np.full(4, 1e20, np.float32)))
    report = assert_folded_alike(net, volume() * 1e-30, tolerance=0)
    assert "would not be finite" in report.left["1"]
    assert isinstance(net[1], bn3d.BatchNorm3d)


def test_a_norm_that_gives_zeros_is_folded():
    net = randomized(nn.SequentialCell(conv(), nn.BatchNorm3d(4)))
    for p in (net[1].bn2d.gamma, net[1].bn2d.beta):
        p.set_data(ms.Tensor(np.zeros(4, np.float32)))
    assert assert_folded_alike(net, volume(), tolerance=0).folded == {"1": "0"}


def test_a_norm_that_gives_more_than_a_tensor_is_left():
    class GivesTwo(bn3d.BatchNorm3d):
        def construct(self, x):
            return super().construct(x), 1

    report = assert_folded_alike(randomized(sequential(GivesTwo(4))), volume(), tolerance=0)
    assert "the layer before it gives 512 values" in report.left["1"]


def test_a_swapped_mint_layer_is_folded():
    net = Nested(norm=mint.nn.BatchNorm3d(4))
    bn3d.swap(net)
    report = assert_folded_alike(randomized(net), volume((2, 2, 5, 6, 7)))
    assert report.folded == {"bn": "conv"}
    assert [p.name for p in net.get_parameters()] == ["conv.weight", "conv.bias"]


class FromNoise(Written):
    """The first layers of a volume generator: Dense, reshape, batch norm."""

    def __init__(self, **arguments):
        super().__init__(nn.Dense(5, 4 * 2 * 3 * 2, **arguments))

    def construct(self, x):
        return self.relu(self.bn(self.conv(x).reshape(-1, 4, self.depth, self.height, 2)))


class FromNoiseStatements(FromNoise):
    def construct(self, x):
        x = self.conv(x)
        x = ops.reshape(x, (-1, 4, 2, 3, 2))
        return self.bn(x)


class OtherRows(FromNoise):
    def construct(self, x):
        return self.bn(self.conv(x).reshape(-1, 4, 1, 3, 2))


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("kind", [FromNoise, FromNoiseStatements])
def test_a_dense_is_folded_through_its_reshape(kind, has_bias):
    net = randomized(kind(has_bias=has_bias))
    assert assert_folded_alike(net, volume((3, 5))).folded == {"bn": "conv"}


@pytest.mark.parametrize("net", [OtherRows, lambda: FromNoise(activation="relu")])
def test_another_dense_is_left(net):
    assert not assert_folded_alike(randomized(net()), volume((3, 5)), tolerance=0).folded


@pytest.mark.parametrize(
    ("name", "folded", "left"), [("resnet3d", 10, 0), ("unet3d", 3, 0), ("r2plus1d", 4, 0)]
)
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("mode", [ms.PYNATIVE_MODE, ms.GRAPH_MODE], ids=["pynative", "graph"])
def test_whole_networks(name, folded, left, swapped, mode):
    recipe = networks.NETWORKS[name]
    net = recipe.build().set_train(False)
    if swapped:
        bn3d.swap(net)
    ms.set_context(mode=mode)
    try:
        report = assert_folded_alike(net, recipe.input(), tolerance=2e-5)
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    assert (len(report.folded), len(report.left)) == (folded, left)
    assert bn3d.fold(net, recipe.input()).folded == {}


@pytest.mark.parametrize("recipe", networks.HABITS.values(), ids=networks.HABITS)
def test_habits_of_public_networks_keep_their_output(recipe):
    net = recipe.build().set_train(False)
    for layer in networks.norms(net):
        layer.set_train(False)
    assert_folded_alike(net, recipe.input(), tolerance=2e-5)


def test_a_copy_is_folded_alone():
    net = randomized(nn.SequentialCell(conv(), bn3d.BatchNorm3d(4)))
    before = {p.name: p.asnumpy().copy() for p in net.get_parameters()}
    assert bn3d.fold(copy.deepcopy(net), volume()).folded
    assert {p.name for p in net.get_parameters()} == before.keys()
    for p in net.get_parameters():
        np.testing.assert_array_equal(p.asnumpy(), before[p.name])


WITHOUT_BN3D = """
    import sys
    import numpy as np
    import mindspore as ms
    sys.modules["bn3d"] = None  # importing it fails
    net = ms.nn.GraphCell(ms.load("net.mindir"))
    np.save("got.npy", net(ms.Tensor(np.load("x.npy"))).asnumpy())
"""


def test_the_export_loads_without_bn3d(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = networks.NETWORKS["resnet3d"]
    net = recipe.build().set_train(False)
    bn3d.swap(net)
    x = recipe.input()
    wanted = net(x).asnumpy()
    assert not bn3d.fold(net, x).left
    ms.export(net, x, file_name="net", file_format="MINDIR")
    ms.export(net, x, file_name="net", file_format="ONNX")
    for file in ("net.mindir", "net.onnx"):
        assert b"BatchNorm" not in (tmp_path / file).read_bytes()
    np.save("x.npy", x.asnumpy())
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WITHOUT_BN3D)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(np.load("got.npy"), wanted, atol=2e-5)


LEVELS = ["O0", "O1", "O2", "O3", "auto"]
NOT_FOLDED = {
    ("O1", True): OTHERS,  # the rewritten convolution adds the bias outside
    ("O2", False): "the layer before it gives",  # the norm computes in float32
    ("O2", True): "the layer before it gives",
}


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("level", LEVELS)
def test_mixed_precision(level, has_bias):
    net = amp.auto_mixed_precision(randomized(Nested(conv(has_bias=has_bias))), level)
    report = assert_folded_alike(net, volume(), tolerance=1e-6 if level == "O0" else 1e-2)
    reason = NOT_FOLDED.get((level, has_bias))
    assert bool(report.folded) is (reason is None)
    for each in report.left.values():
        assert reason in each


@pytest.mark.parametrize("how", ["stock", "swapped before", "swapped after", "ours"])
@pytest.mark.parametrize("listed", [nn.BatchNorm2d, nn.BatchNorm3d], ids=["inner", "whole"])
def test_mixed_precision_that_leaves_the_norm_in_float32(how, listed):
    norm = (bn3d.BatchNorm3d if how == "ours" else nn.BatchNorm3d)(4)
    net = nn.SequentialCell(randomized(Nested(norm=norm)))
    if how == "swapped before":
        bn3d.swap(net)
    amp.custom_mixed_precision(net, black_list=[listed])
    if how == "swapped after":
        bn3d.swap(net)
    report = assert_folded_alike(net, volume(), tolerance=1e-2)
    if listed is nn.BatchNorm2d:  # what wraps it is inside of the norm, and goes with it
        assert report.folded == {"0.bn": "0.conv"}
    else:  # what wraps it casts to float32 on the way, which the convolution does not
        assert "of Float16" in report.left["0.bn._backbone"]


def test_a_frozen_layer_is_folded_in_training_mode():
    net = randomized(Nested())
    bn3d.freeze(net)
    net.set_train()
    assert assert_folded_alike(net, volume()).folded == {"bn": "conv"}


def test_the_report_says_how_exact_it_is_and_for_what():
    net = randomized(Nested())
    wanted = net(volume()).asnumpy()
    report = bn3d.fold(net, volume())
    measured = np.abs(net(volume()).asnumpy() - wanted).max() / np.abs(wanted).max()
    assert report.error == pytest.approx(measured)
    assert report.one_way == {}
    assert str(report) == (
        "1 folded, 0 left as they are\n"
        f"proven for these inputs: the output differs by {measured:.1e}"
    )


def test_one_of_several_processes_folds_nothing(monkeypatch):
    net = randomized(Nested())
    monkeypatch.setenv("MS_WORKER_NUM", "2")
    report = bn3d.fold(net, volume())
    assert "one of several processes" in report.left["bn"]


class GivesWholeNumbers(Written):
    def construct(self, x):
        return self.bn(self.conv(x)).argmax(1), None, {"shape": x.shape}


def test_outputs_of_any_kind():
    assert assert_folded_alike(randomized(GivesWholeNumbers()), volume()).folded


def test_a_network_without_batch_norm_does_not_run():
    report = bn3d.fold(nn.SequentialCell(conv()), "no input of it")
    assert (report.folded, report.left, report.error) == ({}, {}, None)


def test_a_gross_difference_undoes_all(monkeypatch):
    monkeypatch.setattr(folding, "_GROSS", 1e-12)
    net = randomized(nn.SequentialCell(conv(), bn3d.BatchNorm3d(4), conv(4, 4), nn.BatchNorm3d(4)))
    report = assert_folded_alike(net, volume(), tolerance=0)
    assert set(report.left) == {"1", "3"}
    assert "all folded, the network raises or gives something else" in report.left["1"]
    assert type(net[1]) is bn3d.BatchNorm3d
    assert net[0].bias is None


def test_a_network_that_raises_raises():
    with pytest.raises(ValueError, match="Conv3D"):
        bn3d.fold(randomized(Nested()), volume((1, 3, 4, 4, 4)))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({}, TypeError, "needs inputs .* is found out by running it; 'run' is for several calls"),
        ({"run": 3}, TypeError, r"'run' must be a function .*, got 3 \(int\)"),
        ({"run": lambda: None}, ValueError, "'run' must return what the network gives, got None"),
    ],
    ids=["none", "no function", "nothing"],
)
def test_inputs_are_needed(arguments, error, text):
    with pytest.raises(error, match=text):
        bn3d.fold(randomized(Nested()), **arguments)


def test_inputs_and_run_do_not_go_together():
    with pytest.raises(TypeError, match="got 1 inputs as well"):
        bn3d.fold(Nested(), volume(), run=lambda: None)


def test_only_cells_are_taken():
    with pytest.raises(TypeError, match=r"'net' must be a mindspore.nn.Cell, got <class 'list'>"):
        bn3d.fold([], volume())
