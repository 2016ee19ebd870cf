"""Files of PyTorch and MindSpore. What is written is complete or not there at all."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import mindspore as ms

from bn3d.errors import first_line
from bn3d.migrate.pytorch import import_torch

__all__ = [
    "MINDSPORE_SUFFIXES",
    "TORCH_SUFFIXES",
    "check_output",
    "check_tensors",
    "read_checkpoint",
    "read_torch",
    "state_dict_in",
    "write_checkpoint",
    "write_torch",
]

TORCH_SUFFIXES = (".pt", ".pth", ".safetensors")
MINDSPORE_SUFFIXES = (".ckpt",)


def read_torch(path: str | PathLike, key: str | None = None) -> Mapping[str, Any]:
    """The state dict in a .pt, .pth or .safetensors file, on the CPU.

    Raises:
        FileNotFoundError, ValueError: no such file, another suffix, damaged, holds objects
            other than tensors, or has no `key`.
    """
    path = _existing(path, TORCH_SUFFIXES)
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickled(path)
    return state_dict_in(state, key, str(path))


def state_dict_in(contents: Any, key: str | None, where: str) -> Mapping[str, Any]:
    """The state dict that `contents` are, or hold under `key`.

    Raises:
        ValueError: there is no `key`, or it is no mapping of names to tensors.
    """
    if key is not None:
        if not isinstance(contents, Mapping) or key not in contents:
            raise ValueError(f"{where} has no key {key!r}; {_contents(contents)}")
        contents = contents[key]
    check_tensors(contents, where)
    return contents


def read_checkpoint(path: str | PathLike) -> dict[str, ms.Parameter]:
    """The parameters in a .ckpt file.

    Raises:
        FileNotFoundError, ValueError: no such file, another suffix, damaged.
    """
    path = _existing(path, MINDSPORE_SUFFIXES)
    try:
        return ms.load_checkpoint(str(path))
    except (ValueError, RuntimeError, TypeError) as error:
        raise ValueError(f"{path} cannot be read as a checkpoint: {error}") from error


def write_checkpoint(tensors: Mapping[str, ms.Parameter], path: str | PathLike) -> None:
    """Write a .ckpt file."""
    with _replacing(path) as temporary:
        data = [{"name": name, "data": value} for name, value in tensors.items()]
        ms.save_checkpoint(data, str(temporary))


def write_torch(tensors: Mapping[str, Any], path: str | PathLike) -> None:
    """Write a .pt, .pth or .safetensors file."""
    with _replacing(path) as temporary:
        if temporary.suffix == ".safetensors":
            from safetensors.torch import save_file  # noqa: PLC0415, imports PyTorch

            save_file({name: t.clone().contiguous() for name, t in tensors.items()}, temporary)
        else:
            import_torch(f"writing {path}").save(dict(tensors), temporary)


def check_output(path: str | PathLike, suffixes: tuple[str, ...]) -> None:
    """Check before the work that a file can be written.

    Raises:
        ValueError: another suffix. FileNotFoundError: no such folder. IsADirectoryError: a folder.
    """
    path = Path(path)
    _check_suffix(path, suffixes)
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.absolute().parent} to write {path.name}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a file to write")


def check_tensors(state: Any, where: str) -> None:
    """Raise ValueError for what is no mapping of names to tensors."""
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and hasattr(tensor, "shape") and hasattr(tensor, "dtype")
        for name, tensor in state.items()
    ):
        raise ValueError(
            f"{where} is no mapping of names to tensors; {_contents(state)}; if one of these is "
            "the state dict, name it as 'key' (--key)"
        )


def _contents(state: Any) -> str:
    if isinstance(state, Mapping):
        names = [str(name) for name in state]
        return f"it holds {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}"
    return f"it holds a {type(state).__module__}.{type(state).__qualname__}"


def _existing(path: str | PathLike, suffixes: tuple[str, ...]) -> Path:
    path = Path(path)
    _check_suffix(path, suffixes)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return path


def _check_suffix(path: Path, suffixes: tuple[str, ...]) -> None:
    if path.suffix not in suffixes:
        raise ValueError(f"{path} must end in {' or '.join(suffixes)}")


def _read_pickled(path: Path) -> Any:
    torch = import_torch(f"reading {path}")
    import pickle  # noqa: PLC0415, for its exception: torch reads with weights_only

    _check_sums(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is damaged or holds more than tensors, which bn3d does not unpickle because "
            "that can run any code; in PyTorch save the tensors alone: "
            f"torch.save(model.state_dict(), ...) ({first_line(error)})"
        ) from error
    except Exception as error:  # its unpickler raises what it met, of any class
        raise ValueError(f"{path} is damaged: {first_line(error)}") from error


def _check_sums(path: Path) -> None:
    """Refuse changed contents: PyTorch's archives have checksums, which it does not look at."""
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError):
        return  # no archive, or a broken one: PyTorch says more about it
    if wrong is not None:
        raise ValueError(f"{path} is damaged: the contents of {wrong} do not fit their checksum")


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        return ms.load_checkpoint(str(path), format="safetensors")
    except Exception as error:  # MindSpore raises what it met, of any class
        raise ValueError(f"{path} is damaged: {first_line(error)}") from error


@contextmanager
def _replacing(path: str | PathLike) -> Iterator[Path]:
    """A temporary file that takes the place of `path` once it is written."""
    path = Path(path).absolute()
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".bn3d-") as folder:
        temporary = Path(folder) / path.name
        yield temporary
        with temporary.open("r+b") as written:  # Windows syncs no file that is open for reading
            os.fsync(written.fileno())
        temporary.chmod(0o644 if not path.exists() else path.stat().st_mode & 0o777)
        temporary.replace(path)
