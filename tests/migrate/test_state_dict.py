"""Whole networks both ways: the same outputs, gradients and training; and what is refused."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
import torch
from mindspore import mint, nn

import bn3d
from migrate.resnets import (
    ResNet,
    TorchResNet,
    assert_close,
    build_small,
    mindspore_step,
    torch_resnet,
    torch_small,
    torch_step,
    volumes,
)
from support import networks

STEPS = 5


def loaded(conversion, net):
    not_loaded, _ = ms.load_param_into_net(net, conversion.tensors, strict_load=True)
    assert not not_loaded
    return net


def statistics(ours, theirs):
    """Pairs of moving and running statistics."""
    state = theirs.state_dict()
    for name, p in ours.parameters_and_names():
        for moving, running in (
            ("moving_mean", "running_mean"),
            ("moving_variance", "running_var"),
        ):
            if name.endswith(moving):
                yield p.asnumpy(), state[name.replace(f"bn2d.{moving}", running)].numpy()


@pytest.mark.parametrize("norm", [bn3d.BatchNorm3d, nn.BatchNorm3d])
def test_a_converted_resnet_computes_what_torch_does(norm):
    theirs = torch_resnet().eval()
    conversion = bn3d.convert_state_dict(theirs.state_dict(), ResNet(norm))
    ours = loaded(conversion, ResNet(norm)).set_train(False)
    assert len(conversion.mapped) == len(list(ours.get_parameters()))
    assert len(conversion.dropped) == 10  # num_batches_tracked
    x = volumes()
    assert_close(ours(ms.Tensor(x)).asnumpy(), theirs(torch.tensor(x)).detach(), 1e-5)


def test_a_converted_resnet_trains_as_in_torch():
    theirs = torch_resnet().train()
    ours = loaded(bn3d.convert_state_dict(theirs.state_dict(), ResNet()), ResNet()).set_train()
    step, torch_s = mindspore_step(ours), torch_step(theirs)
    for seed in range(STEPS):
        y, dx, gradients = step(volumes(seed))
        wanted_y, wanted_dx, wanted = torch_s(volumes(seed))
        assert_close(y, wanted_y, 1e-5)
        assert_close(dx, wanted_dx, 5e-5, floor=0)
        for name, gradient in gradients.items():
            torch_name = name.replace("bn2d.gamma", "weight").replace("bn2d.beta", "bias")
            assert_close(gradient, wanted[torch_name], 5e-5, floor=0)
        for moving, running in statistics(ours, theirs):
            assert_close(moving, running, 1e-5)


def test_a_trained_resnet_goes_back_to_torch():
    theirs = torch_resnet()
    ours = loaded(bn3d.convert_state_dict(theirs.state_dict(), ResNet()), ResNet()).set_train()
    step = mindspore_step(ours)
    for seed in range(STEPS):
        step(volumes(seed))
    back = TorchResNet()
    conversion = bn3d.to_torch_state_dict(ours, like=back)
    back.load_state_dict(conversion.tensors, strict=True)
    back.eval()
    ours.set_train(False)
    x = volumes(99)
    assert_close(back(torch.tensor(x)).detach(), ours(ms.Tensor(x)).asnumpy(), 1e-5)


def test_there_and_back_is_the_same_to_the_bit():
    state = torch_resnet().state_dict()
    ours = loaded(bn3d.convert_state_dict(state, ResNet()), ResNet())
    back = bn3d.to_torch_state_dict(ours).tensors
    assert back.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(back[name], tensor), name


class OwnParameter(nn.Cell):
    def __init__(self):
        super().__init__()
        self.scale = ms.Parameter(ms.Tensor(np.ones(3, np.float32)))

    def construct(self, x):
        return x * self.scale


class TorchOwnParameter(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x * self.scale


LAYERS = {
    "conv1d": (lambda: nn.Conv1d(2, 3, 3, has_bias=True, pad_mode="valid"),
               lambda: torch.nn.Conv1d(2, 3, 3), (4, 2, 8)),
    "conv2d": (lambda: nn.Conv2d(2, 4, 3, has_bias=True, pad_mode="valid", group=2),
               lambda: torch.nn.Conv2d(2, 4, 3, groups=2), (4, 2, 8, 8)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 3, has_bias=True, pad_mode="valid"),
               lambda: torch.nn.Conv3d(2, 3, 3), (2, 2, 5, 6, 7)),
    "grouped conv3d": (lambda: nn.Conv3d(4, 6, 3, has_bias=True, pad_mode="valid", group=2),
                       lambda: torch.nn.Conv3d(4, 6, 3, groups=2), (2, 4, 5, 6, 7)),
    "conv1d transposed": (lambda: nn.Conv1dTranspose(2, 3, 3, has_bias=True, pad_mode="valid"),
                          lambda: torch.nn.ConvTranspose1d(2, 3, 3), (4, 2, 8)),
    "conv2d transposed": (lambda: nn.Conv2dTranspose(2, 3, 3, has_bias=True, pad_mode="valid"),
                          lambda: torch.nn.ConvTranspose2d(2, 3, 3), (4, 2, 8, 8)),
    "conv3d transposed": (lambda: nn.Conv3dTranspose(2, 3, 3, has_bias=True, pad_mode="valid"),
                          lambda: torch.nn.ConvTranspose3d(2, 3, 3), (2, 2, 5, 6, 7)),
    "dense": (lambda: nn.Dense(4, 3), lambda: torch.nn.Linear(4, 3), (5, 4)),
    "layer norm": (lambda: nn.LayerNorm((4,), epsilon=1e-5),
                   lambda: torch.nn.LayerNorm(4), (5, 4)),
    "group norm": (lambda: nn.GroupNorm(2, 4), lambda: torch.nn.GroupNorm(2, 4), (2, 4, 5, 6)),
    "prelu": (lambda: nn.PReLU(3), lambda: torch.nn.PReLU(3), (2, 3, 4, 4)),
    "batch norm 1d": (lambda: nn.BatchNorm1d(4), lambda: torch.nn.BatchNorm1d(4), (5, 4)),
    "batch norm 2d": (lambda: nn.BatchNorm2d(4), lambda: torch.nn.BatchNorm2d(4), (2, 4, 5, 6)),
    "batch norm 3d": (lambda: nn.BatchNorm3d(4), lambda: torch.nn.BatchNorm3d(4), (2, 4, 5, 6, 2)),
    "a cell's own parameter": (OwnParameter, TorchOwnParameter, (2, 3)),
}  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs", "shape"), LAYERS.values(), ids=LAYERS)
def test_every_kind_of_layer_computes_what_torch_does_and_comes_back(ours, theirs, shape):
    ours, theirs = nn.SequentialCell(ours()), torch.nn.Sequential(theirs()).eval()
    generator = torch.Generator().manual_seed(0)
    for name, tensor in theirs.state_dict().items():
        if tensor.is_floating_point():
            low = 0.5 if name.endswith("running_var") else -1
            tensor.uniform_(low, 1, generator=generator)
    loaded(bn3d.convert_state_dict(theirs.state_dict(), ours), ours).set_train(False)
    x = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    assert_close(ours(ms.Tensor(x)).asnumpy(), theirs(torch.tensor(x)).detach(), 1e-5)
    back = bn3d.to_torch_state_dict(ours, like=theirs).tensors
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(back[name], tensor), name


def test_an_embedding_too():
    ours, theirs = (
        nn.SequentialCell(nn.Embedding(5, 3)),
        torch.nn.Sequential(torch.nn.Embedding(5, 3)),
    )
    loaded(bn3d.convert_state_dict(theirs.state_dict(), ours), ours)
    indices = np.array([4, 0, 2])
    np.testing.assert_array_equal(
        ours(ms.Tensor(indices, ms.int32)).asnumpy(), theirs(torch.tensor(indices)).detach()
    )


def test_layers_of_mint_have_the_names_of_torch():
    ours = nn.SequentialCell(mint.nn.Linear(4, 4), mint.nn.BatchNorm3d(4))
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm3d(4))
    theirs[1].num_batches_tracked.fill_(7)
    loaded(bn3d.convert_state_dict(theirs.state_dict(), ours), ours)
    assert int(ours[1].num_batches_tracked) == 7


def test_a_layer_without_a_rule_is_missing_with_the_reason():
    ours = nn.SequentialCell(nn.BiDense(2, 3, 4))
    source = {"0.weight": torch.ones(4, 2, 3), "0.bias": torch.ones(4)}
    with pytest.raises(bn3d.ConversionError, match=r"no rule for weight of .*BiDense") as e:
        bn3d.convert_state_dict(source, ours)
    assert set(e.value.conversion.missing) == {"0.weight", "0.bias"}
    rules = [(r"^0\.(\w+)$", r"first.\1"), (r"^first\.(\w+)$", r"0.\1")]
    with pytest.raises(bn3d.ConversionError):
        bn3d.convert_state_dict(source, ours, rules=rules)
    source = {f"bilinear.{name[2:]}": tensor for name, tensor in source.items()}
    assert bn3d.convert_state_dict(source, ours, rules={r"^bilinear\.": "0."}).complete


def test_a_shared_layer_has_both_names_in_torch():
    net = networks.SharedCell()
    state = bn3d.to_torch_state_dict(net).tensors
    assert {"bn.weight", "also_bn.weight"} <= state.keys()
    loaded(bn3d.convert_state_dict(state, net), net)
    state["also_bn.weight"] = state["also_bn.weight"] + 1
    with pytest.raises(
        bn3d.ConversionError, match=r"is one parameter here, and bn\.weight has other"
    ):
        bn3d.convert_state_dict(state, net)


def test_rules_rename():
    state = {f"module.backbone.{k}": v for k, v in torch_resnet().state_dict().items()}
    state = {k.replace(".fc.", ".classifier."): v for k, v in state.items()}
    rules = [(r"^module\.", ""), (r"^backbone\.", ""), (r"^classifier\.(\w+)$", r"fc.\1")]
    assert bn3d.convert_state_dict(state, ResNet(), rules=rules).complete
    assert bn3d.convert_state_dict(state, ResNet(), rules=dict(rules)).complete
    back = bn3d.to_torch_state_dict(
        ResNet(), like=state, rules=[("^fc", "classifier"), ("^", "module.backbone.")]
    )
    assert back.complete


def test_a_rule_may_lead_to_the_name_in_mindspore():
    state = torch_resnet().state_dict()
    state["head.scale"] = state.pop("bn1.weight")
    rules = {r"^head\.scale$": "bn1.bn2d.gamma"}
    assert bn3d.convert_state_dict(state, ResNet(), rules=rules).complete


def test_a_rule_may_leave_a_name_as_it_is():
    """So the user says that a layer without a rule has its values laid out alike."""
    theirs, ours = torch.nn.LSTM(2, 3), nn.LSTM(2, 3)
    with pytest.raises(bn3d.ConversionError):
        bn3d.convert_state_dict(theirs.state_dict(), ours)
    named = {"^weight": "weight", "^bias": "bias"}
    assert bn3d.convert_state_dict(theirs.state_dict(), ours, rules=named).complete


def spoiled():
    state = torch_resnet().state_dict()
    del state["bn1.weight"]
    state["extra.weight"] = torch.zeros(3)
    state["fc.weight"] = torch.zeros(4, 8)
    return state


def test_nothing_is_converted_unless_all_is_accounted_for(tmp_path):
    with pytest.raises(bn3d.ConversionError) as error:
        bn3d.convert_state_dict(spoiled(), ResNet(), output=tmp_path / "net.ckpt")
    conversion = error.value.conversion
    assert list(conversion.missing) == ["bn1.bn2d.gamma"]
    assert conversion.unexpected == ["extra.weight"]
    assert conversion.mismatched == {"fc.weight": "has shape (4, 8), its place (3, 8)"}
    assert conversion.tensors == {}
    assert list(tmp_path.iterdir()) == []
    for name in ("bn1.bn2d.gamma", "extra.weight", "fc.weight"):
        assert name in str(error.value)


def test_partial_converts_what_fits(tmp_path):
    output = tmp_path / "net.ckpt"
    net = ResNet()
    before = {p.name: p.asnumpy().copy() for p in net.get_parameters()}
    conversion = bn3d.convert_state_dict(spoiled(), net, output=output, partial=True)
    assert not conversion.complete
    for p in net.get_parameters():  # the network is only looked at
        np.testing.assert_array_equal(p.asnumpy(), before[p.name])
    not_loaded, _ = ms.load_param_into_net(net, ms.load_checkpoint(str(output)), strict_load=True)
    assert sorted(not_loaded) == ["bn1.bn2d.gamma", "fc.weight"]


def test_other_dtypes_are_cast_and_reported():
    state = {k: v.double() for k, v in torch_resnet().state_dict().items()}
    conversion = bn3d.convert_state_dict(state, ResNet())
    assert {each.cast_from for each in conversion.mapped} == {"float64"}
    assert "cast: conv1.weight from float64 to float32" in str(conversion)
    half = {k: v.bfloat16() for k, v in torch_resnet().state_dict().items()}
    assert bn3d.convert_state_dict(half, ResNet()).mapped[0].cast_from == "bfloat16"


def test_a_value_beyond_the_dtype_is_a_mismatch():
    state = torch.nn.Sequential(torch.nn.Linear(2, 2)).double().state_dict()
    state["0.weight"][0, 0] = 1e300
    with pytest.raises(bn3d.ConversionError, match="has values beyond float32"):
        bn3d.convert_state_dict(state, nn.SequentialCell(nn.Dense(2, 2)))


def test_the_way_back_is_checked_against_the_module():
    wanted = torch_resnet().state_dict()
    wanted["extra.weight"] = torch.zeros(3)
    wanted["fc.weight"] = torch.zeros(4, 8)
    del wanted["bn1.weight"]
    with pytest.raises(bn3d.ConversionError) as error:
        bn3d.to_torch_state_dict(ResNet(), like=wanted)
    conversion = error.value.conversion
    assert conversion.unexpected == ["bn1.bn2d.gamma"]
    assert list(conversion.mismatched) == ["fc.weight"]
    assert list(conversion.missing) == ["extra.weight"]


def test_a_statistic_of_another_size_takes_no_count_with_it():
    with pytest.raises(bn3d.ConversionError) as error:
        bn3d.to_torch_state_dict(nn.BatchNorm3d(8), like=torch.nn.BatchNorm3d(9))
    assert len(error.value.conversion.mismatched) == 4
    assert not error.value.conversion.missing


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"net": 3}, TypeError, "'net' must be a mindspore.nn.Cell, got <class 'int'>"),
        ({"rules": {"(": ""}}, ValueError, "is no regular expression"),
        ({"rules": [("a", 1)]}, TypeError, "'rules' must hold pairs"),
        ({"rules": ["ab"]}, TypeError, "'rules' must hold pairs"),
        ({"rules": {"conv": r"\3"}}, ValueError, "does not fit"),
        ({"rules": 3}, TypeError, r"'rules' must be a mapping, or pairs, .* got 3 \(int\)"),
        ({"rules": None}, TypeError, "'rules' must be a mapping, or pairs"),
        ({"rules": "ab"}, TypeError, "'rules' must be a mapping, or pairs"),
        ({"source": {"a": 3}}, ValueError, "'source' is no mapping of names to tensors"),
        ({"source": {0: torch.ones(1)}}, ValueError, "'source' is no mapping of names to tensors"),
        (
            {"source": torch.nn.Linear(1, 1)},
            TypeError,
            r"'source' .* <class 'torch\.nn.*Linear'>; give its st",
        ),
        ({"source": torch.ones(1)}, TypeError, r"'source' must be .* got <class 'torch\.Tensor'>"),
        ({"source": None}, TypeError, "'source' must be a path, or a mapping"),
        ({"key": 3}, TypeError, r"'key' must be a str or None, got 3 \(int\)"),
        ({"key": ["a"]}, TypeError, "'key' must be a str or None"),
        ({"partial": 1}, TypeError, r"'partial' must be a bool, got 1 \(int\)"),
        ({"output": 3}, TypeError, r"'output' must be a path, got 3 \(int\)"),
        ({"output": "net.pt"}, ValueError, "must end in .ckpt"),
        ({"output": "nowhere/net.ckpt"}, FileNotFoundError, "there is no folder"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    arguments = {"source": torch_small().state_dict(), "net": build_small()} | arguments
    with pytest.raises(error, match=message):
        bn3d.convert_state_dict(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"like": 3},
            TypeError,
            "'like' must be a torch.nn.Module, or its state dict, got <class 'int'>",
        ),
        ({"like": torch.ones(1)}, TypeError, r"'like' .* got <class 'torch\.Tensor'>"),
        ({"like": {"a": 3}}, ValueError, "'like' is no mapping of names to tensors"),
        ({"checkpoint": {}}, TypeError, "'checkpoint' must be a path, got dict"),
        ({"checkpoint": 3}, TypeError, "'checkpoint' must be a path, got int"),
        ({"output": 3}, TypeError, r"'output' must be a path, got 3 \(int\)"),
        ({"output": "net.CKPT"}, ValueError, r"must end in \.pt"),
        ({"partial": "no"}, TypeError, "'partial' must be a bool"),
        ({"rules": 3}, TypeError, "'rules' must be a mapping"),
        ({"net": torch_small()}, TypeError, "'net' must be a mindspore.nn.Cell"),
    ],
)
def test_bad_arguments_of_the_way_back_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        bn3d.to_torch_state_dict(**{"net": build_small()} | arguments)


def test_values_that_an_integer_does_not_hold_are_a_mismatch():
    net = OwnParameter()
    net.scale = ms.Parameter(ms.Tensor([0], ms.int32), name="scale")
    for value in (torch.tensor([2**40]), torch.tensor([1.5])):
        with pytest.raises(bn3d.ConversionError, match="has values beyond int32"):
            bn3d.convert_state_dict({"scale": value}, net)
    assert bn3d.convert_state_dict({"scale": torch.tensor([7])}, net).complete


def test_a_value_beyond_the_dtype_beside_one_that_is_not_finite():
    state = torch.nn.Sequential(torch.nn.Linear(2, 2)).double().state_dict()
    state["0.weight"][0, 0], state["0.weight"][0, 1] = 1e300, float("nan")
    with pytest.raises(bn3d.ConversionError, match="has values beyond float32"):
        bn3d.convert_state_dict(state, nn.SequentialCell(nn.Dense(2, 2)))
