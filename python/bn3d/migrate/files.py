"""Files of PyTorch and MindSpore. What is written is complete or not there at all."""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import mindspore as ms
from safetensors import SafetensorError, safe_open

from bn3d import outputs
from bn3d.migrate.contents import is_meant, state_dict_in
from bn3d.migrate.formats import Format, format_of
from bn3d.migrate.pytorch import import_torch

__all__ = [
    "MINDSPORE_SUFFIXES",
    "TORCH_SUFFIXES",
    "check_output",
    "read_checkpoint",
    "read_torch",
    "write_checkpoint",
    "write_torch",
]

# Of files to write. What is read is told by its contents.
TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".pyth", ".pth.tar", ".pt.tar", ".safetensors")
MINDSPORE_SUFFIXES = (".ckpt",)

_FOLDER = 0x10  # attribute of a member of an archive; of such a one PyTorch makes stray memory


def read_torch(path: str | PathLike[str], key: str | None = None) -> dict[str, Any]:
    """The state dict in a file of `torch.save` or of safetensors, on the CPU.

    Raises:
        FileNotFoundError, ValueError: no such file, another format, damaged, holds objects
            other than tensors, or has no `key`.
    """
    kind = format_of(path)
    if kind is Format.MINDSPORE:
        raise ValueError(
            f"{path} is {kind.value}, not of PyTorch; the way back is bn3d.to_torch_state_dict, "
            f"or an output that ends in {_any_of(TORCH_SUFFIXES)}"
        )
    read = _read_mindspore if kind is Format.SAFETENSORS else _read_pickled
    return state_dict_in(read(Path(path)), key, str(path))


def read_checkpoint(path: str | PathLike[str]) -> dict[str, ms.Parameter]:
    """The parameters in a checkpoint of MindSpore, a protocol buffer or safetensors.

    Raises:
        FileNotFoundError, ValueError: no such file, another format, damaged.
    """
    kind = format_of(path)
    if kind is Format.PYTORCH:
        raise ValueError(
            f"{path} is {kind.value}, not of MindSpore; bn3d.convert_state_dict takes it, with an "
            f"output that ends in {_any_of(MINDSPORE_SUFFIXES)}"
        )
    return _read_mindspore(Path(path))


def write_checkpoint(tensors: Mapping[str, ms.Parameter], path: str | PathLike[str]) -> None:
    """Write a .ckpt file."""
    with outputs.replacing(path, ".ckpt") as temporary:
        data = [{"name": name, "data": value} for name, value in tensors.items()]
        ms.save_checkpoint(data, str(temporary))


def write_torch(tensors: Mapping[str, Any], path: str | PathLike[str]) -> None:
    """Write the parameters and buffers of a state dict: safetensors where the name says so, or
    what `torch.save` writes.

    Raises:
        OSError: as `outputs.replacing`.
    """
    tensors = {name: tensor for name, tensor in tensors.items() if is_meant(name, tensor)}
    torch = import_torch(f"writing {path}")
    with outputs.replacing(path) as temporary:
        try:
            if str(path).lower().endswith(".safetensors"):
                from safetensors.torch import save_file  # noqa: PLC0415, imports PyTorch

                save_file({name: t.clone().contiguous() for name, t in tensors.items()}, temporary)
            else:
                torch.save(tensors, temporary)
        except (RuntimeError, SafetensorError) as error:  # on a full disk no OSError
            raise OSError(
                f"{path} cannot be written, the disk may be full: {_first_line(error)}"
            ) from error


def check_output(path: str | PathLike[str], suffixes: tuple[str, ...]) -> None:
    """Check before the work that a file can be written.

    Raises:
        TypeError: no path. ValueError: another suffix.
        OSError: no such folder, a folder itself, or no permission to write there.
    """
    if not isinstance(path, str | PathLike):
        raise TypeError(f"'output' must be a path, got {path!r} ({type(path).__name__})")
    path = Path(path)
    name = path.name.lower() if suffixes is TORCH_SUFFIXES else path.name  # MindSpore minds case
    if not name.endswith(suffixes):
        raise ValueError(f"{path} must end in {_any_of(suffixes)}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a file to write")
    if not path.is_symlink() and not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.absolute().parent} to write {path.name}")
    try:
        outputs.check(path)
    except OSError as error:
        raise type(error)(f"{path} cannot be written: {error.strerror}") from error


def _any_of(suffixes: tuple[str, ...]) -> str:
    return " or ".join(suffixes)


def _read_pickled(path: Path) -> Any:
    torch = import_torch(f"reading {path}")
    import pickle  # noqa: PLC0415, for its exception: torch reads with weights_only

    _check_archive(path)
    try:
        with path.open("rb") as file:  # of a path it looks at the name
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is damaged or holds more than tensors, which bn3d does not unpickle because "
            "that can run any code; in PyTorch save the tensors alone: "
            f"torch.save(model.state_dict(), ...) ({_first_line(error)})"
        ) from error
    except Exception as error:  # its unpickler raises what it met, of any class
        raise ValueError(f"{path} is damaged: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """What PyTorch or MindSpore says, without the page on what may be done about it."""
    said = str(error).strip()
    unpickler = re.search(r"WeightsUnpickler error: ([^.\n]*(\.\w+)*)", said)  # in that page
    return unpickler[1] if unpickler else said.partition("\n")[0] or repr(error)


def _check_archive(path: Path) -> None:
    """Refuse programs, and changed contents: PyTorch's archives have checksums, which it does
    not look at.
    """
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return  # no archive: what torch.save wrote before there were any
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            wrong = archive.testzip()
            for member in archive.infolist():
                if member.external_attr & _FOLDER and not member.is_dir():
                    raise ValueError(f"{member.filename} is marked as a folder")
    except Exception as error:  # zipfile raises what it met, of any class
        raise ValueError(f"{path} is damaged: {_first_line(error)}") from error
    if any(name.endswith("/constants.pkl") for name in names):
        raise ValueError(
            f"{path} is a program of TorchScript; in PyTorch save its tensors alone: "
            f"torch.save(torch.jit.load({str(path)!r}).state_dict(), ...)"
        )
    if wrong is not None:
        raise ValueError(f"{path} is damaged: the contents of {wrong} do not fit their checksum")


def _read_mindspore(path: Path) -> dict[str, ms.Parameter]:
    """What MindSpore reads: its own checkpoints, and safetensors of anybody."""
    ending = "safetensors" if format_of(path) is Format.SAFETENSORS else "ckpt"
    with _named(path, f".{ending}") as named:
        try:
            checked = _has_checksum(named)
            values = ms.load_checkpoint(str(named), format=ending, crc_check=checked)
        except KeyError as error:  # of MindSpore's dtypes: the library has read the header
            raise ValueError(
                f"{path} has tensors of dtype {error.args[0]}, which MindSpore does not read from "
                "safetensors: write it by torch.save, or in float32"
            ) from error
        except Exception as error:  # MindSpore raises what it met, of any class
            why = _first_line(error).replace(str(named), str(path))
            raise ValueError(f"{path} is damaged: {why}") from error
    for name, value in values.items():
        if isinstance(value, list):  # a table of embeddings, which no layer here has
            raise ValueError(f"{path} is damaged: {name} is no tensor")
    return values


def _has_checksum(path: Path) -> bool:
    """Whether MindSpore was asked for one when it wrote; it warns if it shall check what is not
    there.
    """
    if path.suffix == ".safetensors":
        with safe_open(path, "np") as file:
            return "crc_num" in (file.metadata() or {})
    with path.open("rb") as file:
        file.seek(-17, os.SEEK_END)
        return file.read(7) == b"crc_num"


@contextmanager
def _named(path: Path, suffix: str) -> Iterator[Path]:
    """The file under a name with a suffix, without which MindSpore does not read it."""
    if path.name.endswith(suffix):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="bn3d-") as folder:
        link = Path(folder) / f"{path.name}{suffix}"
        link.symlink_to(path.absolute())
        yield link
