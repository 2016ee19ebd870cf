"""All that a network holds, to see what a run changed and to put it back."""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Hashable

import numpy as np
from mindspore import Parameter, Tensor, nn

from bn3d.networks.values import children, digest, fingerprint

__all__ = ["Snapshot"]

_MISSING = object()
# Attributes of MindSpore's own in every cell, which change when it is first called.
_OF_ALL_CELLS = frozenset(vars(nn.Cell())) - {"training"}


class Snapshot:
    """Classes, attributes, containers, and the values of tensors, as they are now.

    Of every cell and object of its own that the network reaches.
    """

    def __init__(self, net: nn.Cell):
        self._classes: list[tuple[object, type]] = []
        self._containers: list[tuple[str, object, list]] = []
        self._tensors: list[tuple[str, object, np.ndarray, tuple]] = []
        seen, waiting = set(), [("", net)]
        while waiting:
            name, value = waiting.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, Tensor | np.ndarray):
                self._keep_tensor(name, value)
                continue
            held = children(value)
            if held is None:
                continue
            if isinstance(value, dict | list | set | deque):
                self._containers.append((name, value, _items(value)))
            elif hasattr(value, "__dict__"):
                self._classes.append((value, type(value)))
                self._containers.append((name, vars(value), _items(vars(value))))
                held += _of_class(value)
            waiting += [
                (_place(name, key), each)
                for key, each in held
                if type(each) not in (int, float, str, bool, type(None))
            ]

    def _keep_tensor(self, name: str, tensor: Tensor | np.ndarray) -> None:
        if getattr(tensor, "has_init", False) or getattr(tensor.dtype, "hasobject", False):
            return
        array = tensor.asnumpy() if isinstance(tensor, Tensor) else tensor
        self._tensors.append((name, tensor, array.copy(), _marks(tensor)))

    def changes(self) -> dict[str, Hashable]:
        """What is not as it was, by place, with fingerprints of what it is now."""
        found = {}
        for name, container, before in self._containers:
            now = _items(container)
            if _same_objects(now, before):
                continue
            was = _by_key(container, before)
            for key, each in _by_key(container, now).items():
                if was.pop(key, _MISSING) is not each and key not in _OF_ALL_CELLS:
                    found[_place(name, key)] = fingerprint(each)
            found |= {_place(name, key): None for key in was.keys() - _OF_ALL_CELLS}
        for name, tensor, before, _ in self._tensors:
            if not _same_bits(tensor, before):
                found[name] = digest(tensor)
        return found

    def restore(self) -> None:
        """Put everything back."""
        for value, kind in self._classes:
            if type(value) is not kind:
                value.__class__ = kind
        for _, container, before in self._containers:
            if not _same_objects(_items(container), before):
                container.clear()
                add = container.extend if isinstance(container, list | deque) else container.update
                add(_by_key(container, before) if isinstance(container, dict) else before)
        for _, tensor, before, marks in self._tensors:
            if not _same_bits(tensor, before):
                if isinstance(tensor, Tensor):
                    tensor.assign_value(Tensor(before))
                else:
                    tensor[...] = before
            if marks != _marks(tensor):
                tensor.name, tensor.requires_grad = marks


def _of_class(value: object) -> list[tuple[str, object]]:
    """Containers that all objects of the class share."""
    return [
        (name, each)
        for kind in type(value).__mro__
        for name, each in vars(kind).items()
        if isinstance(each, dict | list | set | deque)
    ]


def _place(name: str, key: object) -> str:
    if key in ("_cells", "_params"):
        return name
    return f"{name}.{key}" if name else str(key)


def _items(container) -> list:
    if isinstance(container, dict):
        return [*container.keys(), *container.values()]
    return list(container)


def _by_key(container, items: list) -> dict:
    if not isinstance(container, dict):
        return dict(enumerate(items))
    half = len(items) // 2
    return dict(zip(items[:half], items[half:], strict=True))


def _same_objects(now: list, before: list) -> bool:
    return len(now) == len(before) and all(map(operator.is_, now, before))


def _same_bits(tensor: Tensor | np.ndarray, before: np.ndarray) -> bool:
    array = tensor.asnumpy() if isinstance(tensor, Tensor) else tensor
    if array.shape != before.shape or array.dtype != before.dtype:
        return False
    a, b = (np.ascontiguousarray(each).reshape(-1).view(np.uint8) for each in (array, before))
    return np.array_equal(a, b)


def _marks(tensor: object) -> tuple:
    return (tensor.name, tensor.requires_grad) if isinstance(tensor, Parameter) else ()
