"""What `swap` and `restore` say, and what `print` shows of a layer."""

from __future__ import annotations

import warnings

import pytest
from mindspore import mint, nn

import bn3d
from bn3d import backends
from bn3d.networks.swap_report import SwapReport

BACKEND = pytest.mark.parametrize(
    "name, label", [("composed", "composed"), ("native", "native, ")], ids=["composed", "native"]
)


class Encoder(nn.Cell):
    def __init__(self):
        super().__init__()
        self.encoder = nn.CellList([nn.BatchNorm3d(3) for _ in range(6)])


@BACKEND
def test_the_report_says_what_computes_where(name, label, monkeypatch):
    monkeypatch.setenv(backends.ENVIRONMENT_VARIABLE, name)
    net = Encoder()
    text = str(bn3d.swap(net))
    assert text.startswith(f"6 of 6 BatchNorm3d now compute with bn3d ({label}")
    assert all(f"encoder.{i}" in text for i in range(6))
    assert str(bn3d.swap(net)).endswith("encoder.5")
    assert str(bn3d.restore(net)).startswith("6 of 6 BatchNorm3d are MindSpore's own again: enc")


def test_what_was_left_is_said_with_the_reason():
    class OwnConstruct(nn.BatchNorm3d):
        def construct(self, x):
            return x

    net = nn.SequentialCell(nn.BatchNorm3d(3), OwnConstruct(3), bn3d.BatchNorm3d(3))
    with pytest.warns(UserWarning, match="leaves '1' alone"):
        first, *others = str(bn3d.swap(net)).splitlines()
    assert first.startswith("1 of 3 ") and first.endswith("): 0")
    assert others[0] == "1 needed no change: 2"
    assert others[1].startswith("left alone: 1: ") and "construct of its own" in others[1]


def test_a_bare_layer_has_a_name():
    assert str(bn3d.swap(nn.BatchNorm3d(3))).endswith(": the layer itself")


def test_long_lists_are_wrapped_and_names_never_cut():
    names = [f"encoder.stage-{i}.{'block' * (i % 30)}.bn1" for i in range(60)]
    text = str(SwapReport(changed=names, done="now compute with bn3d (native, avx2)"))
    assert [word.strip(",") for word in text.split() if "stage" in word] == names
    for line in text.splitlines():
        assert len(line) <= 80 or " " not in line.strip()


@BACKEND
@pytest.mark.parametrize("built", [bn3d.BatchNorm3d, nn.BatchNorm3d, mint.nn.BatchNorm3d])
def test_print_shows_the_backend(name, label, built, monkeypatch):
    monkeypatch.setenv(backends.ENVIRONMENT_VARIABLE, name)
    layer = built(3)
    stock = repr(layer)
    bn3d.swap(layer)
    assert f"backend={label}" in repr(layer)
    assert "num_features=3" in repr(layer)
    if built is not bn3d.BatchNorm3d:
        assert "backend" not in stock
        bn3d.restore(layer)
        assert repr(layer) == stock


@pytest.mark.parametrize("name, value", [("momentum", 0.5), ("eps", 1e-3)])
@pytest.mark.parametrize("built", [bn3d.BatchNorm3d, nn.BatchNorm3d])
def test_an_assignment_that_changes_nothing_warns(name, value, built):
    layer = built(3)
    bn3d.swap(layer)
    with pytest.warns(UserWarning, match=rf"{name} = {value} changes nothing: .* fixed at"):
        setattr(layer, name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer.momentum, layer.eps = 0.9, 1e-5  # what it computes with
        layer.training = True
