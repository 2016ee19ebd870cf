"""Runs all checks over shapes, dtypes and modes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import mindspore as ms

from bn3d import backends
from bn3d.commands.verify.check import Case, Check, guarded
from bn3d.commands.verify.layer import check_layer
from bn3d.commands.verify.operators import check_operator
from bn3d.operators import OPERATORS

__all__ = [
    "QUICK_SHAPES",
    "SHAPES",
    "DeviceError",
    "count",
    "set_device",
    "use_device",
    "verify",
]

MODES = ("PYNATIVE_MODE", "GRAPH_MODE")

QUICK_SHAPES = ((2, 3, 4, 5, 6), (1, 20, 2, 8, 8))
SHAPES = (
    *QUICK_SHAPES,
    (3, 5, 1, 1, 1),  # three values a channel
    (1, 1, 1, 1, 1),  # one: the variance is 0
    (2, 64, 8, 28, 28),  # a stage of a video network
    (4, 17, 3, 7, 9),  # odd everywhere: no block of any layout is full
    (1, 2880, 1, 4, 4),  # many channels with few values
)
FAR_MEAN = 1000.0  # in standard deviations, as far as the moving mean is off at the first step


class DeviceError(RuntimeError):
    """The device, or what bn3d computes with on it, is not there; the text says what to do."""


def use_device(device: str) -> None:
    """Let MindSpore compute on a device.

    Raises:
        DeviceError: MindSpore has none of this kind here.
    """
    try:
        # MindSpore takes no choice once it has computed something, not even the same one.
        if ms.get_context("device_target") != device:
            ms.set_device(device)
        ms.Tensor([1.0]).abs().asnumpy()
    except (RuntimeError, ValueError) as error:
        said = str(error).strip().partition("\n")[0]  # and then what it could not load, a page
        raise DeviceError(
            f"MindSpore {ms.__version__} has no device {device} here: {said}"
        ) from error


def set_device(device: str) -> backends.Choice:
    """`use_device`, and the backend of its layers.

    Raises:
        DeviceError: no such device; or its backend does not work, and BN3D_BACKEND did not ask
            for another.
    """
    use_device(device)
    choice = backends.choose(device)
    if choice.passed_over:
        name, reason = next(iter(choice.passed_over.items()))
        raise DeviceError(
            f"backend {name} does not work here: {reason}. "
            f"{backends.ENVIRONMENT_VARIABLE}={choice.name} selects the {choice.name} backend"
        )
    return choice


def verify(
    choice: backends.Choice,
    shapes: Sequence[tuple[int, int, int, int, int]] = SHAPES,
    modes: Sequence[str] | None = None,
    on_case: Callable[[Case], None] = lambda case: None,
) -> Iterator[Check]:
    """Check a backend's operators and the layer; MindSpore's mode is put back at the end."""
    before = ms.get_context("mode")
    try:
        for mode, shape, dtype in itertools.product(modes or MODES, shapes, _dtypes(choice)):
            case = Case(shape, dtype, mode)
            ms.set_context(mode=getattr(ms, case.mode))
            yield from _check(choice, case)
            on_case(case)
    finally:
        ms.set_context(mode=before)


def count(
    choice: backends.Choice,
    shapes: Sequence[tuple[int, int, int, int, int]] = SHAPES,
    modes: Sequence[str] | None = None,
) -> int:
    """How many cases `verify` checks."""
    return len(modes or MODES) * len(shapes) * len(_dtypes(choice))


def _dtypes(choice: backends.Choice) -> list[str]:
    # The operators take vectors in float32 only.
    return [name for name in choice.backend.dtypes if name != "float64"]


def _check(choice: backends.Choice, case: Case) -> Iterator[Check]:
    for operator in OPERATORS:
        yield from guarded(
            operator.type, case, partial(check_operator, choice.backend, operator, case)
        )
    # A volume of half precision has no digits left at a far mean.
    means = (0.5, FAR_MEAN) if case.dtype == "float32" else (0.5,)
    for mean in means:
        yield from guarded("layer, training", case, partial(check_layer, case, mean, True))
    yield from guarded("layer, inference", case, partial(check_layer, case, 0.5, False))
