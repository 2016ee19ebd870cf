"""Files: every format read and written, damaged ones refused, none left half-written."""

from __future__ import annotations

import os
import pickle
import stat
import sys

import mindspore as ms
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import bn3d
from bn3d.migrate import files
from migrate.resnets import (
    ResNet,
    TorchResNet,
    assert_close,
    build_small,
    torch_resnet,
    torch_small,
    volumes,
)


def saved(path, state):
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_file_becomes_a_checkpoint_and_comes_back(tmp_path, suffix, dtype):
    theirs = torch_resnet().to(dtype)
    source = saved(tmp_path / f"in{suffix}", theirs.state_dict())
    checkpoint, back = tmp_path / "net.ckpt", tmp_path / f"back{suffix}"

    bn3d.convert_state_dict(source, ResNet(), output=checkpoint)
    ours = ResNet()
    ms.load_checkpoint(str(checkpoint), ours, strict_load=True)
    ours.set_train(False)
    theirs = theirs.float().eval()
    x = volumes()
    assert_close(ours(ms.Tensor(x)).asnumpy(), theirs(torch.tensor(x)).detach(), 1e-5)

    bn3d.to_torch_state_dict(ResNet(), checkpoint=checkpoint, output=back)
    again = files.read_torch(back)
    for name, tensor in theirs.state_dict().items():
        np.testing.assert_array_equal(np.asarray(again[name]), tensor.numpy())
    if suffix != ".safetensors":
        TorchResNet().load_state_dict(torch.load(back, weights_only=True), strict=True)


def test_safetensors_need_no_torch(tmp_path, monkeypatch):
    source = saved(tmp_path / "in.safetensors", torch_resnet().state_dict())
    monkeypatch.setitem(sys.modules, "torch", None)
    assert bn3d.convert_state_dict(source, ResNet()).complete


def test_pt_needs_torch(tmp_path, monkeypatch):
    source = saved(tmp_path / "in.pt", torch_resnet().state_dict())
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"in\.pt needs PyTorch .*pip install torch"):
        bn3d.convert_state_dict(source, ResNet())


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("kept", [0, 10, 0.5, -1], ids=["empty", "start", "half", "one byte less"])
def test_a_truncated_file_is_refused(tmp_path, suffix, kept):
    source = saved(tmp_path / f"in{suffix}", torch_resnet().state_dict())
    whole = source.read_bytes()
    source.write_bytes(whole[: int(len(whole) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(ValueError, match=rf"in\{suffix} is damaged"):
        bn3d.convert_state_dict(source, ResNet(), output=tmp_path / "net.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


class Payload:
    """Would write a file if it were unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize(
    "save", [torch.save, lambda obj, path: path.write_bytes(pickle.dumps(obj))]
)
def test_code_in_a_file_is_not_run(tmp_path, save):
    save({"weight": Payload(tmp_path / "was run")}, tmp_path / "in.pt")
    with pytest.raises(ValueError, match=r"save the tensors alone"):
        bn3d.convert_state_dict(tmp_path / "in.pt", ResNet())
    assert not (tmp_path / "was run").exists()


def test_a_whole_pickled_module_is_refused(tmp_path):
    torch.save(torch_resnet(), tmp_path / "in.pt")
    with pytest.raises(ValueError, match=r"torch\.save\(model\.state_dict\(\)"):
        bn3d.convert_state_dict(tmp_path / "in.pt", ResNet())


def test_a_state_dict_inside_of_a_training_checkpoint(tmp_path):
    source = tmp_path / "in.pth"
    torch.save({"epoch": 3, "state_dict": torch_resnet().state_dict()}, source)
    with pytest.raises(ValueError, match=r"it holds epoch, state_dict; .*--key"):
        bn3d.convert_state_dict(source, ResNet())
    with pytest.raises(ValueError, match=r"has no key 'model'; it holds epoch, state_dict"):
        bn3d.convert_state_dict(source, ResNet(), key="model")
    assert bn3d.convert_state_dict(source, ResNet(), key="state_dict").complete


def test_a_state_dict_inside_another_dict_in_memory():
    checkpoint = {"epoch": 3, "state_dict": torch_resnet().state_dict()}
    with pytest.raises(ValueError, match=r"'source' .*it holds epoch, state_dict; .*'key'"):
        bn3d.convert_state_dict(checkpoint, ResNet())
    with pytest.raises(ValueError, match=r"'source' has no key 'model'; it holds epoch"):
        bn3d.convert_state_dict(checkpoint, ResNet(), key="model")
    assert bn3d.convert_state_dict(checkpoint, ResNet(), key="state_dict").complete


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        bn3d.convert_state_dict(tmp_path / "no.pt", ResNet())


@pytest.mark.parametrize(
    "name", ["in.pth.tar", "in.pyth", "in.bin", "in.PTH", "in.ckpt", "in.safetensors", "in", "in.0"]
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "pickle"])
def test_a_file_of_torch_may_have_any_name(tmp_path, name, zipped):
    state = torch_small().state_dict()
    torch.save(state, tmp_path / name, _use_new_zipfile_serialization=zipped)
    assert bn3d.convert_state_dict(tmp_path / name, build_small()).complete


@pytest.mark.parametrize("name", ["in.bin", "in.pt", "in.ckpt", "in.SAFETENSORS", "in"])
def test_safetensors_may_have_any_name(tmp_path, name):
    save_file(torch_small().state_dict(), tmp_path / name)
    assert bn3d.convert_state_dict(tmp_path / name, build_small()).complete


@pytest.mark.parametrize("kind", ["ckpt", "safetensors"])
@pytest.mark.parametrize("name", ["net.ckpt", "net.safetensors", "net.pt", "net.CKPT", "net"])
def test_a_checkpoint_of_mindspore_may_have_any_name(tmp_path, name, kind):
    net = build_small()
    written = tmp_path / f"written.{kind}"
    ms.save_checkpoint(net, str(written), format=kind)
    written.rename(tmp_path / name)
    conversion = bn3d.to_torch_state_dict(net, checkpoint=tmp_path / name, like=torch_small())
    assert torch.equal(conversion.tensors["1.weight"], torch.tensor(net[1].bn2d.gamma.asnumpy()))
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["out.pth.tar", "out.pyth", "out.bin", "out.PTH"])
def test_a_file_for_torch_may_have_its_names(tmp_path, name):
    conversion = bn3d.to_torch_state_dict(build_small(), output=tmp_path / name)
    state = torch.load(tmp_path / name, weights_only=True)
    assert state.keys() == conversion.tensors.keys()


def test_the_other_direction_is_named(tmp_path):
    torch.save(torch_resnet().state_dict(), tmp_path / "in.ckpt")
    ms.save_checkpoint(ResNet(), str(tmp_path / "net.ckpt"))
    with pytest.raises(ValueError, match=r"of PyTorch, not of MindSpore; bn3d\.convert_state_dict"):
        bn3d.to_torch_state_dict(ResNet(), checkpoint=tmp_path / "in.ckpt")
    with pytest.raises(ValueError, match=r"not of PyTorch; .* bn3d\.to_torch_state_dict"):
        bn3d.convert_state_dict(tmp_path / "net.ckpt", ResNet())


def test_a_damaged_checkpoint_is_refused(tmp_path):
    (tmp_path / "net.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match=r"net\.ckpt is damaged"):
        bn3d.to_torch_state_dict(ResNet(), checkpoint=tmp_path / "net.ckpt")


@pytest.mark.parametrize("form", ["ckpt", "safetensors"])
@pytest.mark.parametrize("checksum", [True, False])
def test_an_intact_checkpoint_is_read_with_a_checksum_or_without(tmp_path, form, checksum, capfd):
    ms.save_checkpoint(ResNet(), str(tmp_path / "net"), crc_check=checksum, format=form)
    (tmp_path / f"net.{form}").rename(tmp_path / "net")
    assert bn3d.to_torch_state_dict(ResNet(), checkpoint=tmp_path / "net").complete
    assert capfd.readouterr() == ("", "")


WRITERS = {
    "net.ckpt": lambda path: bn3d.convert_state_dict(
        torch_small().state_dict(), build_small(), output=path
    ),
    "net.pt": lambda path: bn3d.to_torch_state_dict(build_small(), output=path),
    "net.safetensors": lambda path: bn3d.to_torch_state_dict(build_small(), output=path),
}


@pytest.mark.skipif(os.name == "nt", reason="modes and links of POSIX")
@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("umask", [0o077, 0o027, 0o002], ids=oct)
def test_a_checkpoint_has_the_mode_of_any_file_and_goes_through_links(tmp_path, name, umask):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / name).symlink_to(f"elsewhere/{name}")
    before = os.umask(umask)
    try:
        WRITERS[name](tmp_path / name)
    finally:
        os.umask(before)
    target = tmp_path / "elsewhere" / name
    assert stat.S_IMODE(target.lstat().st_mode) == 0o666 & ~umask
    assert (tmp_path / name).is_symlink()
    assert [path.name for path in target.parent.iterdir()] == [name]


@pytest.mark.parametrize("write", ["write_checkpoint", "write_torch"])
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, write):
    output = tmp_path / ("net.ckpt" if write == "write_checkpoint" else "net.pt")
    output.write_bytes(b"precious")

    def fail(_, path):
        with open(path, "wb") as half:  # noqa: PTH123
            half.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(ms, "save_checkpoint", fail)
    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="no space left"):
        getattr(files, write)({}, output)
    assert output.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors", "net.ckpt"])
def test_a_full_disk_is_an_error_of_the_system(tmp_path, name):
    """Whatever the writers of these formats make of it; a limit of the process stands for it."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (99, before[1]))
    try:
        with pytest.raises(OSError, match=rf"net\.{name[4:]}"):
            WRITERS[name](tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_another_network(tmp_path):
    ms.save_checkpoint(ms.nn.Dense(2, 3), str(tmp_path / "net.ckpt"))
    with pytest.raises(bn3d.ConversionError) as error:
        bn3d.to_torch_state_dict(ResNet(), checkpoint=tmp_path / "net.ckpt")
    assert error.value.conversion.unexpected == ["weight", "bias"]
    assert len(error.value.conversion.missing) == len(list(ResNet().get_parameters()))
