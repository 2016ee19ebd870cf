"""The backends and the choice among them.

Each backend is a module that ends with `BACKEND`, a `Backend`; importing it registers its
operators.
To add one: that module, and its line in `BACKENDS`.

| backend  | computes with                                       | runs on                  |
|----------|-----------------------------------------------------|--------------------------|
| ascend   | the operator package, four operators                | Ascend 910               |
| native   | this package's C++ library, fused operators         | CPU, Linux               |
| composed | MindSpore's own operators                           | any device, any platform |
| numpy    | `bn3d.reference`, the judge of the others           | CPU; graphs on Linux     |

The last one is never chosen by itself.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import platform
import subprocess
from dataclasses import dataclass, field

import mindspore as ms

from bn3d.backends import ascend_obstacles
from bn3d.backends.backend import Backend
from bn3d.backends.library import LibraryError

__all__ = ["BACKENDS", "ENVIRONMENT_VARIABLE", "Backend", "Choice", "choose"]

ENVIRONMENT_VARIABLE = "BN3D_BACKEND"
BACKENDS = {"ascend": "Ascend", "native": "CPU", "composed": None, "numpy": "CPU"}
"""In the order of preference, with the device target that each needs; None: any."""

_logger = logging.getLogger("bn3d")


@dataclass(frozen=True)
class Choice:
    """The backend that computes, and why no better one does.

    Attributes:
        backend: what computes.
        passed_over: what speaks against each backend that would have been better.
    """

    backend: Backend
    passed_over: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """One of `BACKENDS`."""
        return self.backend.name


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
    if target == "meta" and wanted == "auto":
        _logger.warning(
            "bn3d computes with its composed backend, which is slower than the others, in layers "
            'that were built or swapped inside mindspore.DeviceCtx("meta"): do that outside of it'
        )
    passed_over: dict[str, str] = {}
    for name, needed in BACKENDS.items():
        if wanted not in ("auto", name):
            continue
        if wanted == "auto" and needed not in (target, None):
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
            return Choice(importlib.import_module(f"bn3d.backends.{name}").BACKEND, passed_over)
        passed_over[name] = obstacle
    raise RuntimeError(
        f"{ENVIRONMENT_VARIABLE}={wanted}, but this backend does not work here: "
        f"{passed_over[wanted]}"
    )


def _obstacle(name: str, target: str) -> str | None:
    """Why a backend does not work here, None where it does."""
    if name == "composed":
        return None
    if BACKENDS[name] not in (target, None):
        return f"it needs the device target {BACKENDS[name]}, this one is {target}"
    if platform.system() != "Linux" and name != "numpy":
        return f"mindspore.ops.Custom exists on Linux only, this is {platform.system()}"
    if name == "ascend" and (reason := ascend_obstacles.obstacle()) is not None:
        return reason
    return _failure(name)


def _failure(name: str) -> str | None:
    """What goes wrong when a backend registers its operators."""
    try:
        importlib.import_module(f"bn3d.backends.{name}")
    except TypeError as error:
        if "MS_CUSTOM_AOT_WHITE_LIST" not in os.environ:
            return str(error)
        # MindSpore's error for a library outside that folder.
        return f"{error}; unset MS_CUSTOM_AOT_WHITE_LIST, or set it to a folder above that file"
    except subprocess.TimeoutExpired as error:
        return (
            f"MindSpore gave g++ {error.timeout:g} seconds to compile the code that calls CANN: "
            "start again when this machine is less busy"
        )
    except (LibraryError, ValueError, RuntimeError, OSError) as error:
        # All but the first are raised while MindSpore compiles the code that calls CANN.
        return str(error)
    return None
