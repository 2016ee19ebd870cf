"""What a file is, by its contents: its name may end in anything."""

from __future__ import annotations

from enum import Enum
from os import PathLike
from pathlib import Path

__all__ = ["Format", "format_of"]

_ZIP = b"PK\x03\x04"
_PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
_LARGEST_HEADER = 100_000_000  # of safetensors
_GIT_LFS = b"version https://git-lfs"


class Format(Enum):
    """The formats of checkpoints that are read."""

    PYTORCH = "a file of PyTorch"
    SAFETENSORS = "a file of safetensors"
    MINDSPORE = "a checkpoint of MindSpore"


def format_of(path: str | PathLike[str]) -> Format:
    """The format of a file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has none of the formats.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with path.open("rb") as file:
        start = file.read(32)
    if start.startswith((_ZIP, *_PICKLES)):
        return Format.PYTORCH
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _LARGEST_HEADER:
        return Format.SAFETENSORS
    if _is_checkpoint(start):
        return Format.MINDSPORE
    if start.startswith(_GIT_LFS):
        raise ValueError(f"{path} is damaged: a pointer of Git LFS is there in place of the file")
    raise ValueError(
        f"{path} is damaged or no checkpoint: it is neither of PyTorch (torch.save), nor "
        f"safetensors, nor of MindSpore, {f'it begins with {start!r}' if start else 'it is empty'}"
    )


def _is_checkpoint(start: bytes) -> bool:
    """Whether a file is MindSpore's protocol buffer, a list of values that begin with a name:
    field 1, a length of any number of bytes, and again field 1.
    """
    length_ends = next((at for at, byte in enumerate(start) if at > 0 and byte < 0x80), None)
    return start[:1] == b"\n" and length_ends is not None and start[length_ends + 1 :][:1] == b"\n"
