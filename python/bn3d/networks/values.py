"""What flows through a network, compared bit for bit, and what replaces it to see who looks."""

from __future__ import annotations

import hashlib
import sys
import types
from collections import deque
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, TypeGuard

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

__all__ = [
    "OUTSIDE",
    "PLAIN",
    "arrays",
    "as_bytes",
    "children",
    "decoy",
    "digest",
    "fingerprint",
    "is_array",
]

# Top-level modules that are no part of a network's own code.
OUTSIDE = frozenset(sys.stdlib_module_names) - {"__main__"} | {"bn3d", "mindspore", "numpy"}
PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic)
_SEQUENCES = (list, tuple, set, frozenset, deque)


def children(value: object) -> list[tuple[object, object]] | None:
    """What a container or an object of the network's own holds, with keys; None for all else.

    Nothing where that is numbers and text only.
    """
    if _is_all_plain(value):
        return []
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, _SEQUENCES):
        return list(enumerate(value))
    own = type(value).__module__.partition(".")[0] not in OUTSIDE
    if isinstance(value, type | types.FunctionType) or not (
        own or isinstance(value, nn.Cell | types.SimpleNamespace)
    ):
        return None
    slots = [name for kind in type(value).__mro__ for name in vars(kind).get("__slots__", ())]
    held = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return list({**held, **getattr(value, "__dict__", {})}.items())


def _is_all_plain(value: Any) -> bool:
    """Whether a container holds numbers and text only. Of millions no step is one of Python's."""
    if type(value) is dict:
        return {*map(type, value), *map(type, value.values())}.issubset(PLAIN)
    return type(value) in _SEQUENCES and set(map(type, value)).issubset(PLAIN)


def is_array(value: object) -> TypeGuard[Tensor | np.ndarray]:
    """Whether it is a Tensor, or numbers of NumPy."""
    return isinstance(value, Tensor) or (
        isinstance(value, np.ndarray) and not value.dtype.hasobject
    )


def as_bytes(value: Tensor | np.ndarray) -> np.ndarray:
    """The memory of an array; where it is not in one piece, a copy of it."""
    array = value.asnumpy() if isinstance(value, Tensor) else value
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def digest(value: Tensor | np.ndarray) -> bytes:
    """Equal for equal bits, in whatever shape."""
    return hashlib.sha1(as_bytes(value).data, usedforsecurity=False).digest()


def fingerprint(
    value: object, same: Mapping[bytes, bytes] | None = None, path: tuple[int, ...] = ()
) -> Hashable:
    """Equal for values that are equal bit for bit, down to what containers and objects hold.

    Args:
        value: anything that a cell gets, gives or keeps.
        same: digests of tensors that count as others.
        path: ids of what `value` is in.
    """
    kind = type(value).__qualname__
    if isinstance(value, PLAIN):
        return kind, repr(value)
    if _is_all_plain(value):
        return kind, hashlib.sha1(repr(value).encode(), usedforsecurity=False).digest()
    if is_array(value):
        found = digest(value)
        return "array", str(value.dtype), value.shape, (same or {}).get(found, found)
    held = None if isinstance(value, nn.Cell) or id(value) in path else children(value)
    if held is None:
        return kind, getattr(value, "__qualname__", None)
    path = (*path, id(value))
    return kind, tuple((repr(key), fingerprint(each, same, path)) for key, each in held)


def arrays(value: object, path: tuple[int, ...] = ()) -> Iterator[np.ndarray]:
    """Copies of the tensors in a value."""
    if is_array(value):
        yield np.array(value.asnumpy() if isinstance(value, Tensor) else value)
    elif not isinstance(value, nn.Cell) and id(value) not in path:
        for _, each in children(value) or ():
            yield from arrays(each, (*path, id(value)))


def decoy(truth: Tensor, noise: np.random.Generator) -> Tensor:
    """A tensor of that shape and dtype that nothing can mistake for the true one.

    A quarter is NaN: whatever is computed from it becomes NaN, also times 0 and beside numbers
    of any size. But ReLUs, maxima and comparisons may swallow a NaN; so the rest are numbers of
    the opposite sign, smaller and much larger ones.
    """
    array = truth.asnumpy().astype(np.float64 if truth.dtype == ms.float64 else np.float32)
    typical = float(np.abs(array).mean()) or 1.0
    factor = np.exp2(noise.uniform(-10, 40, array.shape)).astype(array.dtype)
    with np.errstate(all="ignore"):
        size = (np.abs(array) + typical) * factor
        size = np.clip(size, None, 60000 if truth.dtype == ms.float16 else 1e30)
    negative = np.where(array == 0, noise.random(array.shape) < 0.5, array > 0)
    values = np.where(negative, -size, size).reshape(-1)
    unknown = noise.random(values.size) < 0.25
    unknown[values.size // 2], unknown[0] = True, False  # of two values one each
    values[unknown] = np.nan
    return Tensor(values.reshape(truth.shape)).astype(truth.dtype)
