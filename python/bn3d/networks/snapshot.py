"""All that a network holds, to see what a run changed and to put it back."""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Hashable
from typing import Any

import numpy as np
from mindspore import Parameter, Tensor, nn

from bn3d.networks.values import PLAIN, arrays, as_bytes, children, fingerprint, is_array

__all__ = ["Snapshot"]

_CONTAINERS = (dict, list, set, deque)
# Attributes of MindSpore's own in every cell, which change when it is first called.
_OF_ALL_CELLS = frozenset(vars(nn.Cell())) - {"training"}


class Snapshot:
    """Classes, attributes, containers and tensors of all that a network reaches, as of now."""

    def __init__(self, net: nn.Cell):
        self._classes: list[tuple[object, type]] = []
        self._containers: list[tuple[str, Any, dict | list]] = []
        self._arrays: list[tuple[str, Tensor | np.ndarray, np.ndarray, tuple]] = []
        seen, waiting = set(), [("", net)]
        while waiting:
            name, value = waiting.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            held = children(value)
            if is_array(value):
                if not getattr(value, "has_init", False):  # without a value yet
                    self._arrays.append((name, value, next(arrays(value)), _marks(value)))
            elif isinstance(value, _CONTAINERS):
                self._containers.append((name, value, _copy(value)))
            elif held and hasattr(value, "__dict__"):
                self._classes.append((value, type(value)))
                self._containers.append((name, vars(value), dict(vars(value))))
                of_class = [each for kind in type(value).__mro__ for each in vars(kind).items()]
                held += [each for each in of_class if isinstance(each[1], _CONTAINERS)]
            others = [item for item in held or () if not isinstance(item[1], PLAIN)]
            waiting += [(_place(name, key), each) for key, each in others]

    def changes(self) -> dict[str, Hashable]:
        """What is not as it was, by place, with fingerprints of what it is now."""
        found = {}
        for name, container, before in self._containers:
            if _is_same(container, before):
                continue
            if not isinstance(before, dict):
                found[name] = fingerprint(container)
                continue
            for key in (container.keys() | before.keys()) - _OF_ALL_CELLS:
                if container.get(key) is not before.get(key):
                    found[_place(name, key)] = fingerprint(container.get(key))
        for name, value, bits, _ in self._arrays:
            if not _same_bits(value, bits):
                found[name] = fingerprint(value)
        return found

    def restore(self) -> None:
        """Put everything back."""
        for value, kind in self._classes:
            if type(value) is not kind:
                value.__class__ = kind
        for _, container, before in self._containers:
            if not _is_same(container, before):
                container.clear()
                add = container.extend if isinstance(container, list | deque) else container.update
                add(before)
        for _, value, bits, marks in self._arrays:
            if not _same_bits(value, bits):
                if isinstance(value, Tensor):
                    value.assign_value(Tensor(bits))
                else:
                    value[...] = bits
            if isinstance(value, Parameter) and marks != _marks(value):
                value.name, value.requires_grad = marks


def _place(name: str, key: object) -> str:
    if key in ("_cells", "_params"):
        return name
    return f"{name}.{key}" if name else str(key)


def _copy(container: Any) -> dict | list:
    return dict(container) if isinstance(container, dict) else list(container)


def _is_same(container: Any, before: dict | list) -> bool:
    if len(container) != len(before):
        return False
    if isinstance(before, dict):
        values = container.values(), before.values()
        return list(container) == list(before) and all(map(operator.is_, *values))
    return all(map(operator.is_, container, before))


def _same_bits(now: Tensor | np.ndarray, before: np.ndarray) -> bool:
    return np.array_equal(as_bytes(now), as_bytes(before))


def _marks(value: object) -> tuple:
    return (value.name, value.requires_grad) if isinstance(value, Parameter) else ()
