"""PyTorch's two arguments in which batch norm differs, in MindSpore's terms.

| PyTorch                    | MindSpore                                              |
|----------------------------|--------------------------------------------------------|
| momentum=m                 | momentum=1-m: the weight of the old value              |
| track_running_stats=True   | use_batch_statistics=None: by the batch while training |
| track_running_stats=False  | use_batch_statistics=True: by the batch, always        |
| the same, set on a layer   | momentum=1: by the batch while training, and the       |
| that has statistics        | statistics, which then stay, otherwise                 |
"""

from __future__ import annotations

import numbers

__all__ = ["from_torch_style"]

# Where nothing is tracked any momentum does; this is the class's default.
_UNUSED_MOMENTUM = 0.9


def from_torch_style(
    momentum: float | None, track_running_stats: bool, has_statistics: bool | None = None
) -> tuple[float, bool | None]:
    """(momentum, use_batch_statistics) of MindSpore for PyTorch's arguments.

    Args:
        momentum: the weight of the new value, 0 to 1, or None, which only a layer that tracks
            nothing can have.
        track_running_stats: the argument, or what a layer has in that attribute.
        has_statistics: whether the layer has running statistics; None: as the argument says.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: momentum is not from 0 to 1, or None where statistics are tracked.
    """
    if not isinstance(track_running_stats, bool):
        raise TypeError(
            f"'track_running_stats' must be a bool, got {track_running_stats!r} "
            f"({type(track_running_stats).__name__})"
        )
    _check_momentum(momentum)
    if has_statistics is None:
        has_statistics = track_running_stats
    if not has_statistics:
        return _UNUSED_MOMENTUM if momentum is None else 1 - float(momentum), True
    if not track_running_stats:
        return 1.0, None
    if momentum is None:
        raise ValueError(
            "'momentum' is None, the cumulative average of PyTorch: MindSpore has no such "
            "statistics; give a number from 0 to 1, the weight of the new value"
        )
    return 1 - float(momentum), None


def _check_momentum(momentum: object) -> None:
    if momentum is None:
        return
    if isinstance(momentum, bool) or not isinstance(momentum, numbers.Real):
        raise TypeError(
            f"'momentum' must be a number from 0 to 1 or None, got {momentum!r} "
            f"({type(momentum).__name__})"
        )
    if not 0 <= float(momentum) <= 1:
        raise ValueError(f"'momentum' must be a number from 0 to 1, got {momentum!r}")
