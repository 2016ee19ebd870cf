"""State dicts beside other entries, under keys and with prefixes: taken, or hinted at."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import bn3d
from migrate.resnets import build_small, torch_small


class Versioned(torch.nn.Sequential):
    """With an entry in its state dict that is no tensor, or one of a meaning of its own."""

    extra: object = {"version": 1}

    def get_extra_state(self):
        return self.extra

    def set_extra_state(self, state):
        assert state is self.extra


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("extra", [{"version": 1}, torch.zeros(5, dtype=torch.uint8)])
def test_entries_that_are_no_tensors_are_dropped(partial, extra, tmp_path):
    module = Versioned(*torch_small())
    module.extra = extra
    state = {**module.state_dict(), "epoch": 3, "best": np.float64(0.5), "args": {"a": 1}, 7: None}
    conversion = bn3d.convert_state_dict(state, build_small(), partial=partial)
    assert conversion.complete
    dropped = {"_extra_state", "epoch", "best", "args", "7", "1.num_batches_tracked"}
    assert set(conversion.dropped) == dropped
    back = bn3d.to_torch_state_dict(
        build_small(), like=module, partial=partial, output=tmp_path / "out.pt"
    )
    module.load_state_dict(back.tensors, strict=True)
    assert "_extra_state" not in torch.load(tmp_path / "out.pt", weights_only=True)


def test_a_value_that_is_no_tensor_does_not_fit_a_parameter():
    state = {**torch_small().state_dict(), "1.bias": [0.0, 0.0]}
    with pytest.raises(bn3d.ConversionError, match=r"1\.bias: is a list, no tensor"):
        bn3d.convert_state_dict(state, build_small())


def test_partial_of_nothing_is_an_error():
    with pytest.raises(bn3d.ConversionError):
        bn3d.convert_state_dict({"a": torch.ones(1)}, build_small(), partial=True)


def test_hints_name_rules_that_work():
    state = {f"module.{name}": tensor for name, tensor in torch_small().state_dict().items()}
    with pytest.raises(bn3d.ConversionError) as error:
        bn3d.convert_state_dict(state, build_small())
    assert "rules=[('^module[.]', '')]" in str(error.value)
    assert "missing:" not in str(error.value)
    with pytest.raises(bn3d.ConversionError) as error:
        bn3d.to_torch_state_dict(build_small(), like=state)
    assert "rules=[('^', 'module.')]" in str(error.value)
    assert bn3d.to_torch_state_dict(build_small(), like=state, rules=[("^", "module.")]).complete


def test_a_compiled_part_of_a_network_gives_a_hint():
    state = torch_small().state_dict()
    state = {name.replace("1.", "1._orig_mod."): tensor for name, tensor in state.items()}
    with pytest.raises(bn3d.ConversionError, match="_orig_mod") as error:
        bn3d.convert_state_dict(state, build_small())
    assert "missing: 1.bn2d.gamma" in str(error.value)  # some fit: the others are named
    rules = {"_orig_mod[.]": ""}
    assert str(list(rules.items())) in str(error.value)
    assert bn3d.convert_state_dict(state, build_small(), rules=rules).complete


def test_no_hint_where_none_would_help():
    state = torch_small().state_dict()
    state["2.weight"] = state.pop("0.weight")
    with pytest.raises(bn3d.ConversionError) as error:
        bn3d.convert_state_dict(state, build_small())
    assert error.value.conversion.hint is None


def test_a_state_dict_deeper_in_a_checkpoint():
    state = torch_small().state_dict()
    checkpoint = {"epoch": 1, "ema": {"decay": 0.9, "model": state}}
    with pytest.raises(ValueError, match=r"tensors under 'ema\.model': .*--key ema\.model"):
        bn3d.convert_state_dict(checkpoint, build_small())
    with pytest.raises(ValueError, match=r"tensors under 'ema\.model': .*--key ema\.model"):
        bn3d.convert_state_dict(checkpoint, build_small(), key="ema")
    assert bn3d.convert_state_dict(checkpoint, build_small(), key="ema.model").complete
    checkpoint = {"a.b": state}  # a key that has a dot itself
    assert bn3d.convert_state_dict(checkpoint, build_small(), key="a.b").complete


def test_parameters_of_lazy_modules_have_no_shape_to_fit():
    lazy = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3, bias=False), torch.nn.LazyBatchNorm3d())
    with pytest.raises(bn3d.ConversionError, match=r"mismatched: 1\.weight: cannot be read: "):
        bn3d.convert_state_dict(lazy.state_dict(), build_small())
    with pytest.raises(ValueError, match=r"'like': 1\.weight is lazy and has no shape yet"):
        bn3d.to_torch_state_dict(build_small(), like=lazy)


def test_a_quantised_tensor_is_named():
    quantised = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    state = {**torch_small().state_dict(), "1.weight": quantised}
    with pytest.raises(
        bn3d.ConversionError, match=r"mismatched: 1\.weight: cannot be read: .*QInt8"
    ):
        bn3d.convert_state_dict(state, build_small())
