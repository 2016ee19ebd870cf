"""Parts of error messages, of bn3d's own and of what other libraries raise."""

from __future__ import annotations

__all__ = ["check_flag", "first_line", "type_name"]


def check_flag(name: str, value: object) -> None:
    """Raise TypeError for an argument that must be a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"'{name}' must be a bool, got {value!r} ({type_name(type(value))})")


def first_line(error: BaseException) -> str:
    """The first line of an error's text, which may be a page; its class's name if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def type_name(kind: type) -> str:
    """The name by which a type is known: "torch.Tensor", and "int" without a module."""
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"
