"""The state dict in what a file or a mapping holds, and hints where it is not found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from bn3d.migrate.rules import compile_rules, rename

__all__ = ["hint_at_key", "hint_at_names", "is_meant", "is_tensor", "state_dict_in"]

_EXTRA = "_extra_state"  # what a module of PyTorch adds to its state dict, of any type


def is_tensor(value: object) -> bool:
    """Whether a value is a tensor of PyTorch, MindSpore or NumPy."""
    # Of the class: those of lazy modules have a shape that raises.
    kind = type(value)
    return hasattr(kind, "shape") and hasattr(kind, "dtype") and not issubclass(kind, np.generic)


def is_meant(name: str, value: object) -> bool:
    """Whether an entry of a state dict is a parameter or buffer."""
    return is_tensor(value) and name.rpartition(".")[2] != _EXTRA


def state_dict_in(contents: Any, key: str | None, where: str) -> dict[str, Any]:
    """The state dict that `contents` are, or hold under `key`, which may be a path: "a.b".
    It may hold more than tensors, but not only that.

    Raises:
        TypeError: `key` is no str.
        ValueError: there is no `key`, or no tensors there.
    """
    if key is not None:
        if not isinstance(key, str):
            raise TypeError(f"'key' must be a str or None, got {key!r} ({type(key).__name__})")
        contents = _under(contents, key, where)
    if not isinstance(contents, Mapping) or (
        contents and not any(_is_entry(*item) for item in contents.items())
    ):
        raise ValueError(
            f"{where} is no mapping of names to tensors; {_summary(contents)}"
            f"{_and(hint_at_key(contents, key))}"
        )
    return {str(name): value for name, value in contents.items()}


def hint_at_key(contents: Any, key: str | None = None) -> str | None:
    """Where in `contents`, which are under `key`, state dicts are, if they hold some."""
    paths = list(_state_dicts(contents, "" if key is None else f"{key}."))
    if not paths:
        return None
    return (
        f"there are tensors under {', '.join(map(repr, paths[:4]))}: name the state dict as "
        f"'key' (--key {paths[0]})"
    )


def hint_at_names(names: Collection[str], wanted: Collection[str]) -> str | None:
    """What would give tensors with these names the names that are wanted: without the prefixes of
    `DataParallel` ("module.") and `torch.compile` ("_orig_mod."), or of a part of a network, or
    with one. None where the names fit as well as they are.
    """
    wanted = set(wanted)

    def fitting(rules: tuple[tuple[str, str], ...]) -> int:
        patterns = compile_rules(rules)
        return len({rename(name, patterns) for name in names} & wanted)

    best = max(_candidates(names, wanted), key=fitting, default=())
    found = fitting(best)
    if found <= fitting(()) or 2 * found < len(wanted):
        return None
    options = " ".join(f"--rename '{pattern}={replacement}'" for pattern, replacement in best)
    return f"{found} of {len(wanted)} names fit with {options} (rules={list(best)!r})"


def _candidates(
    names: Collection[str], wanted: Collection[str]
) -> Iterator[tuple[tuple[str, str], ...]]:
    """Rules for names, the shorter first."""
    compiled = (("_orig_mod[.]", ""),)
    yield compiled
    stripped: tuple[tuple[str, str], ...] = ()
    left = list(names)
    for _ in range(3):
        first = _first_part(left)
        if first is None:
            break
        stripped += ((f"^{re.escape(first)}[.]", ""),)
        left = [name.removeprefix(f"{first}.") for name in left]
        yield stripped
        yield stripped + compiled
    first = _first_part(wanted)
    if first is not None:
        yield (("^", f"{first}."),)


def _first_part(names: Collection[str]) -> str | None:
    """The commonest part before the first dot."""
    parts = Counter(name.partition(".")[0] for name in names if "." in name)
    return max(parts, key=parts.__getitem__, default=None)


def _under(contents: Any, key: str, where: str) -> Any:
    found = contents
    for part in [key] if isinstance(contents, Mapping) and key in contents else key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise ValueError(
                f"{where} has no key {key!r}; {_summary(contents)}{_and(hint_at_key(contents))}"
            )
        found = found[part]
    return found


def _state_dicts(contents: Any, path: str = "", depth: int = 2) -> Iterator[str]:
    if not isinstance(contents, Mapping):
        return
    for name, value in contents.items():
        if isinstance(name, str) and isinstance(value, Mapping):
            if any(_is_entry(*item) for item in value.items()):
                yield path + name
            elif depth > 1:
                yield from _state_dicts(value, f"{path}{name}.", depth - 1)


def _is_entry(name: object, value: object) -> bool:
    return isinstance(name, str) and is_meant(name, value)


def _and(hint: str | None) -> str:
    return "" if hint is None else f"; {hint}"


def _summary(contents: Any) -> str:
    if isinstance(contents, Mapping):
        names = [str(name) for name in contents]
        return f"it holds {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}"
    return f"it holds a {type(contents).__qualname__}"
