"""Which communication groups there are."""

from __future__ import annotations

from collections.abc import Collection

from bn3d.mindspore_private.names import ask

__all__ = ["created", "existing", "remembered"]

_helper = ask(
    "mindspore.communication._comm_helper",
    "communication groups are known by what bn3d created, also after release()",
)
_created: set[str] = set()


def existing() -> Collection[str]:
    """The names of the groups that there are."""
    return _created if _helper is None else _helper._get_group_map()


def created(name: str) -> None:
    """Say that a group was created."""
    _created.add(name)


def remembered() -> Collection[str]:
    """Names that MindSpore keeps after `release()`: it creates no group of such a name."""
    return () if _helper is None else _helper._ExistingGroup.ITEMS
