"""Which devices share their batch statistics: `process_groups`, as in `nn.SyncBatchNorm`.

The devices and the communication among them are MindSpore's: `mindspore.communication`.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Collection
from typing import NamedTuple

from mindspore.communication import (
    GlobalComm,
    create_group,
    get_group_size,
    get_rank,
)

from bn3d.mindspore_private import groups

__all__ = ["GroupMissingError", "Membership", "ProcessGroups", "find"]

ProcessGroups = list[list[int]] | None

# Set in each of several processes by what started them: msrun, a rank table, mpirun.
_SIZE_VARIABLES = ("MS_WORKER_NUM", "RANK_SIZE", "OMPI_COMM_WORLD_SIZE")


class Membership(NamedTuple):
    """The communication group of this process, how many are in it and the place among them."""

    group: str
    size: int
    place: int


class GroupMissingError(RuntimeError):
    """A communication group has to be created first, by all of its ranks together."""


def find(process_groups: ProcessGroups, create: bool = True) -> Membership | None:
    """The communication group that this process belongs to; None where it is alone.

    It is alone in a group of one, if no group holds its rank, and where MindSpore's communication
    is not initialised and this is the only process.

    Args:
        process_groups: lists of ranks, each a group of its own; None puts all into one. Every
            process has to pass the same.
        create: whether to create the group if it does not exist, which waits for its other ranks.

    Raises:
        GroupMissingError: the group does not exist, and `create` is False.
        TypeError: `process_groups` is no list of lists of ints.
        ValueError: a rank is there twice, or there is no such rank.
        RuntimeError: this is one of several processes, and not initialised.
    """
    _check(process_groups)
    if not GlobalComm.INITED:
        _check_single()
        return None
    own_rank, size = get_rank(), get_group_size()
    if process_groups is None:
        return Membership(GlobalComm.WORLD_COMM_GROUP, size, own_rank) if size > 1 else None
    for rank in itertools.chain(*process_groups):
        if not 0 <= rank < size:
            raise ValueError(
                f"'process_groups' must hold ranks from 0 to {size - 1}, got {rank} in "
                f"{process_groups}"
            )
    own = next((tuple(sorted(ranks)) for ranks in process_groups if own_rank in ranks), ())
    if len(own) < 2:
        return None
    existing = groups.existing()
    name = _name(own, existing)
    if name not in existing:
        if not create:
            raise GroupMissingError(
                f"the communication group of the ranks {list(own)} does not exist yet"
            )
        create_group(name, list(own))
        groups.created(name)
    return Membership(name, len(own), own.index(own_rank))


def _name(ranks: tuple[int, ...], existing: Collection[str]) -> str:
    """The name that the group of these ranks has, or can be created with."""
    text = "_".join(map(str, ranks))
    first = f"bn3d_{len(ranks)}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    names = itertools.chain([first], (f"{first}_{number}" for number in itertools.count(2)))
    # MindSpore remembers names beyond `release()`, and creates no group of such a name.
    gone = groups.remembered()
    return next(name for name in names if name in existing or name not in gone)


def _check(process_groups: ProcessGroups) -> None:
    if process_groups is None:
        return
    if not isinstance(process_groups, list) or not all(
        isinstance(ranks, list) for ranks in process_groups
    ):
        raise TypeError(
            f"'process_groups' must be a list of lists of ranks or None, got {process_groups!r}"
        )
    seen = set()
    for rank in itertools.chain(*process_groups):
        if isinstance(rank, bool) or not isinstance(rank, int):
            raise TypeError(
                f"'process_groups' must hold ints, got {rank!r} ({type(rank).__name__})"
            )
        if rank in seen:
            raise ValueError(f"'process_groups' must hold a rank once, got {rank} twice")
        seen.add(rank)


def _check_single() -> None:
    for name in _SIZE_VARIABLES:
        size = os.environ.get(name, "")
        if size.isdigit() and int(size) > 1:
            raise RuntimeError(
                f"SyncBatchNorm3d: this is one of {size} processes ({name}), and their "
                "communication is not initialised: call mindspore.communication.init() before "
                "the layer is built or swapped in"
            )
