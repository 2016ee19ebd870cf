"""`bn3d convert` on files that are not what their names say, and on places it cannot write to:
a line that says what is wrong, no traceback, nothing written.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import mindspore as ms
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from bn3d.commands.cli import app
from migrate.resnets import ResNet, torch_resnet
from support.archives import archive


def state(change=lambda weight: weight):
    """A state dict with fc.weight (3, 8) changed."""
    whole = torch_resnet().state_dict()
    return {**whole, "fc.weight": change(whole["fc.weight"])}


def torch_file(make):
    return lambda path: torch.save(make(), path)


def with_weight(change):
    return torch_file(lambda: state(change))


def text(data):
    return lambda path: path.write_bytes(data)


def changed(write, at):
    """64 bytes from a share of the file's length on are others."""

    def change(path):
        write(path)
        data = bytearray(path.read_bytes())
        start = int(len(data) * at)
        data[start : start + 64] = bytes(byte ^ 0xFF for byte in data[start : start + 64])
        path.write_bytes(data)

    return change


def with_bit(write, place):
    """A bit of an archive is another: `place` gives the offset of its byte, and the bit."""

    def change(path):
        write(path)
        data = bytearray(path.read_bytes())
        at, bit = place(data, zipfile.ZipFile(path).getinfo(f"{path.stem}/data/1"))
        data[at] ^= bit
        path.write_bytes(data)

    return change


def local(offset, bit):
    """In the header before a member."""
    return lambda data, member: (member.header_offset + offset, bit)


def central(offset, bit):
    """In the header of a member in the directory at the end."""
    return lambda data, member: (data.rindex(member.filename.encode()) - 46 + offset, bit)


def packed(path):
    """PyTorch reads these as well."""
    other = path.with_suffix(".stored")
    torch.save(state(), other)
    with zipfile.ZipFile(other) as stored, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in stored.namelist():
            new.writestr(name, stored.read(name))
    other.unlink()


def cut(write, kept):
    def shorten(path):
        write(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * kept)])

    return shorten


good_pt = torch_file(state)


def good_safetensors(path):
    save_file({name: tensor.contiguous() for name, tensor in state().items()}, path)


def good_ckpt(path):
    ms.save_checkpoint(ResNet(), str(path))


def with_checksum(path):
    form = path.suffix.removeprefix(".")
    ms.save_checkpoint(ResNet(), str(path), crc_check=True, format=form)


def with_byte(write, at, bits):
    def change(path):
        write(path)
        path.chmod(0o600)
        data = bytearray(path.read_bytes())
        data[at] ^= bits
        path.write_bytes(data)

    return change


def float8(path):
    save_file({"fc.weight": torch.ones(3).to(torch.float8_e4m3fn)}, path)


def under(write, suffix):
    """A file of one format under the name of another."""

    def rename(path):
        other = path.with_suffix(suffix)
        write(other)
        other.rename(path)

    return rename


def program(path):
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), path)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
NO_MAPPING = "is no mapping of names to tensors; it holds"

# Name of the file, what makes it, what the message says.
FILES = [
    ("none.pt", lambda path: None, "there is no file none.pt"),
    ("none.ckpt", lambda path: None, "there is no file none.ckpt"),
    ("folder.pt", Path.mkdir, "there is no file folder.pt"),
    ("folder.safetensors", Path.mkdir, "there is no file folder.safetensors"),
    ("folder.ckpt", Path.mkdir, "there is no file folder.ckpt"),
    ("empty.pth", Path.touch, "empty.pth is damaged"),
    ("empty.safetensors", Path.touch, "empty.safetensors is damaged"),
    ("empty.ckpt", Path.touch, "empty.ckpt is damaged"),
    ("text.pt", text(b"hello world\n"), "text.pt is damaged"),
    ("text.ckpt", text(b"hello world\n"), "text.ckpt is damaged"),
    ("page.pt", text(b"<!DOCTYPE html>" + b"x" * 999), "page.pt is damaged"),
    ("pointer.pt", text(POINTER), "pointer.pt is damaged: a pointer of Git LFS"),
    ("pointer.safetensors", text(POINTER), "pointer.safetensors is damaged"),
    ("pointer.ckpt", text(POINTER), "pointer.ckpt is damaged"),
    ("gzip.pt", text(b"\x1f\x8b\x08" + bytes(99)), "gzip.pt is damaged"),
    ("length.safetensors", text(b"\xff" * 8 + b"{}"), "length.safetensors is damaged"),
    ("json.safetensors", text(b"\x0a" + bytes(7) + b'{"a":     '), "json.safetensors is damaged"),
    ("half.pt", cut(good_pt, 0.5), "half.pt is damaged"),
    ("most.pt", cut(good_pt, 0.99), "most.pt is damaged"),
    ("half.safetensors", cut(good_safetensors, 0.5), "half.safetensors is damaged"),
    ("half.ckpt", cut(good_ckpt, 0.5), "half.ckpt is damaged"),
    ("most.ckpt", cut(good_ckpt, 0.99), "most.ckpt is damaged"),
    ("start.pt", changed(good_pt, 0), "start.pt is damaged"),
    ("middle.pt", changed(good_pt, 0.5), "middle.pt is damaged"),
    ("index.pt", changed(good_pt, 0.985), "index.pt is damaged"),
    ("local_name.pt", with_bit(good_pt, local(27, 1)), "local_name.pt is damaged"),
    ("encrypted.pt", with_bit(good_pt, central(8, 1)), "encrypted.pt is damaged"),
    ("marked.pt", with_bit(good_pt, central(38, 0x10)), "marked.pt is damaged: marked/data/1"),
    ("method.pt", with_bit(good_pt, central(10, 1)), "method.pt is damaged"),
    ("packed.pt", with_bit(packed, local(45, 0x1F)), "packed.pt is damaged"),
    ("start.safetensors", changed(good_safetensors, 0), "start.safetensors is damaged"),
    ("checked.ckpt", with_byte(with_checksum, 100, 0x40), "checked.ckpt is damaged: "),
    (
        "checked.safetensors",
        with_byte(with_checksum, -9, 0x40),
        "checked.safetensors is damaged: ",
    ),
    ("table.ckpt", with_byte(good_ckpt, 17, 0x08), "table.ckpt is damaged: conv1.weight"),
    ("float8.safetensors", float8, "has tensors of dtype F8_E4M3, which MindSpore does not read"),
    ("zip.pt", archive({"a": "b"}), "zip.pt is damaged"),
    ("data.pt", archive({"a/data.pkl": "broken", "a/version": "3"}), "data.pt is damaged"),
    ("pickle.pt", text(pickle.dumps({"a": 1})), "pickle.pt is damaged or holds more"),
    (
        "whole.pt",
        torch_file(lambda: torch.nn.Linear(1, 1)),
        "torch.save(model.state_dict(), ...) (Unsupported global: GLOBAL torch.nn.modules.linear.L",
    ),
    ("ckpt.pt", under(good_ckpt, ".ckpt"), "out.ckpt must end in .pt or .pth"),
    ("pt.ckpt", under(good_pt, ".pt"), "out.pt must end in .ckpt"),
    ("program.pt", program, "program.pt is a program of TorchScript"),
    ("list.pt", torch_file(lambda: [torch.ones(3)]), f"list.pt {NO_MAPPING}"),
    ("tensor.pt", torch_file(lambda: torch.ones(3)), f"tensor.pt {NO_MAPPING}"),
    ("nothing.pt", torch_file(lambda: None), f"nothing.pt {NO_MAPPING}"),
    ("number.pt", torch_file(lambda: 3), f"number.pt {NO_MAPPING}"),
    ("nested.pt", torch_file(lambda: {"model": state()}), f"nested.pt {NO_MAPPING} model"),
    ("numbered.pt", torch_file(lambda: {0: torch.ones(3)}), f"numbered.pt {NO_MAPPING} 0"),
    ("lists.pt", with_weight(lambda w: w.tolist()), "fc.weight: is a list, no tensor"),
    ("no_names.pt", torch_file(dict), "fc.weight is not there"),
    ("shape.pt", with_weight(lambda w: w[:2]), "has shape (2, 8), its place"),
    ("flat.pt", with_weight(torch.flatten), "has shape (24,), its place (3, 8)"),
    ("scalar.pt", with_weight(torch.sum), "has shape (), its place (3, 8)"),
    ("none_of.pt", with_weight(lambda w: w[:0]), "has shape (0, 8), its place"),
    (
        "wide.pt",
        with_weight(lambda w: w.double() * 1e300),
        "values beyond float32",
    ),
    ("complex.pt", with_weight(lambda w: w + 1j), "complex64 would lose"),
    ("meta.pt", with_weight(lambda w: w.to("meta")), "fc.weight"),
    ("sparse.pt", with_weight(torch.Tensor.to_sparse), "fc.weight"),
]


@pytest.fixture
def convert(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")

    def convert(source, output):
        result = CliRunner().invoke(app, ["convert", source, output, "--net=migrate.resnets:build"])
        assert isinstance(result.exception, SystemExit), result.exception  # no traceback
        return " ".join(result.output.split("\n"))

    return convert


@pytest.mark.parametrize(("name", "write", "says"), FILES, ids=[file[0] for file in FILES])
def test_a_file_that_is_something_else(convert, tmp_path, name, write, says):
    write(tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    output = "out.pt" if name.endswith(".ckpt") else "out.ckpt"
    assert says in convert(name, output)
    assert sorted(tmp_path.rglob("*")) == before


OUTPUTS = [
    ("nowhere/out.ckpt", "there is no folder"),
    ("file/out.ckpt", "there is no folder"),
    ("folder.ckpt", "folder.ckpt is a folder"),
    ("out.txt", "out.txt must end in .ckpt"),
    ("out", "out must end in .ckpt"),
    ("out.pt", "out.pt must end in .ckpt"),
    ("", "must end in .ckpt"),
]


@pytest.mark.parametrize(
    ("output", "says"), OUTPUTS, ids=[output or "none" for output, _ in OUTPUTS]
)
def test_a_place_where_nothing_can_be_written(convert, tmp_path, output, says):
    good_pt(tmp_path / "in.pt")
    (tmp_path / "file").touch()
    (tmp_path / "folder.ckpt").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert says in convert("in.pt", output)
    assert sorted(tmp_path.rglob("*")) == before
