"""The backends and the choice among them.

Each backend is a module with

    settings(eps, momentum) -> settings
    forward_training(x, gamma, beta, moving_mean, moving_variance, settings) -> (y, ...)
    forward_inference(x, gamma, beta, moving_mean, moving_variance, settings) -> y

where x and y are (N, C, D, H, W) and the parameters (C,). `forward_training` also updates the
moving statistics, unless momentum is 1. Each also offers the four operators of `bn3d.operators`
as `reduce`, `apply`, `grad_reduce` and `grad_apply`; batches that span devices are computed with
them, see `bn3d.backends.synchronised`. What only some have:

    compiled        wraps what calls an operator in PyNative mode, as `mindspore.jit` does
    VOLUME_DTYPES   dtypes of volumes that the operators take; without it all that layers take
    DTYPES          their names

| backend  | computes with                                       | runs on                  |
|----------|-----------------------------------------------------|--------------------------|
| ascend   | the operator package, four operators                | Ascend 910               |
| native   | this package's C++ library, fused operators         | CPU, Linux               |
| composed | MindSpore's own operators                           | any device, any platform |

There is none of NumPy: `ops.Custom(func_type="pyfunc")` of MindSpore 2.10 fails in PyNative mode
when an operator meets a second shape. The NumPy formulas, `bn3d.reference`, judge the others.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import platform
from dataclasses import dataclass, field
from types import ModuleType

import mindspore as ms

from bn3d.backends import ascend_obstacles
from bn3d.backends.library import LibraryError

__all__ = ["BACKENDS", "ENVIRONMENT_VARIABLE", "Choice", "choose"]

ENVIRONMENT_VARIABLE = "BN3D_BACKEND"
BACKENDS = ("ascend", "native", "composed")

_TARGETS = {"ascend": "Ascend", "native": "CPU"}

_logger = logging.getLogger("bn3d")


@dataclass(frozen=True)
class Choice:
    """The backend that computes, and why no better one does.

    Attributes:
        name: one of `BACKENDS`.
        module: the backend itself.
        passed_over: what speaks against each backend that would have been better.
    """

    name: str
    module: ModuleType
    passed_over: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The name, and of the native library the instruction set: "native, avx2"."""
        found = getattr(self.module, "LIBRARY", None)
        return self.name if found is None else f"{self.name}, {found.instruction_set}"


def choose(device_target: str | None = None) -> Choice:
    """The backend for a device target, by default MindSpore's current one.

    The environment variable BN3D_BACKEND asks for one of `BACKENDS`; unset, empty or
    "auto" takes the first of them that works here.

    Raises:
        ValueError: BN3D_BACKEND has another value.
        RuntimeError: BN3D_BACKEND asks for a backend that does not work here.
    """
    target = device_target or ms.get_context("device_target")
    return _choose(target, os.environ.get(ENVIRONMENT_VARIABLE, "auto") or "auto")


@functools.cache
def _choose(target: str, wanted: str) -> Choice:
    if wanted not in ("auto", *BACKENDS):
        raise ValueError(
            f"{ENVIRONMENT_VARIABLE} must be one of auto, {', '.join(BACKENDS)}, got {wanted!r}"
        )
    passed_over = {}
    for name in BACKENDS:
        if wanted not in ("auto", name):
            continue
        if wanted == "auto" and name in _TARGETS and target != _TARGETS[name]:
            continue
        obstacle = _obstacle(name, target)
        if obstacle is None:
            for better, reason in passed_over.items():
                _logger.warning(
                    "bn3d computes with its %s backend, which is slower than %s: %s",
                    name,
                    better,
                    reason,
                )
            return Choice(name, importlib.import_module(f"bn3d.backends.{name}"), passed_over)
        passed_over[name] = obstacle
    raise RuntimeError(
        f"{ENVIRONMENT_VARIABLE}={wanted}, but this backend does not work here: "
        f"{passed_over[wanted]}"
    )


def _obstacle(name: str, target: str) -> str | None:
    """Why a backend does not work here, None where it does."""
    if name == "composed":
        return None
    if target != _TARGETS[name]:
        return f"it needs the device target {_TARGETS[name]}, this one is {target}"
    if platform.system() != "Linux":
        return f"mindspore.ops.Custom exists on Linux only, this is {platform.system()}"
    if name == "ascend" and (reason := ascend_obstacles.obstacle()) is not None:
        return reason
    return _failure(name)


def _failure(name: str) -> str | None:
    """What goes wrong when a backend registers its operators."""
    try:
        importlib.import_module(f"bn3d.backends.{name}")
    except TypeError as error:
        # MindSpore's answer to a library outside of that folder.
        return f"{error}; unset MS_CUSTOM_AOT_WHITE_LIST, or set it to a folder above that file"
    except (LibraryError, ValueError, RuntimeError, OSError) as error:
        # All but the first come from MindSpore's compilation of what it calls the operators of
        # CANN with.
        return str(error)
    return None
