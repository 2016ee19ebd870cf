"""What keeps the operators of the package from running here, each with its remedy."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import bn3d
from bn3d.mindspore_private.device import soc_name
from bn3d.opp import node
from bn3d.opp.cann import DEFAULT_PLACES, CannError
from bn3d.opp.payload import InstallError
from bn3d.opp.status import status

__all__ = ["obstacle", "obstacles"]

_logger = logging.getLogger("bn3d")


def obstacle() -> str | None:
    """Why the operators cannot be used with the device target Ascend; None if there is no reason
    known. Then what may still go wrong is logged.
    """
    found = next(obstacles(), None)
    if found is None:
        for note in node.notes(soc_name()):
            _logger.warning("bn3d's operator package: %s", note)
    return found


def obstacles() -> Iterator[str]:
    """Everything that keeps the operators from being used, with its remedy, first things first.

    Without CANN, or without a readable package, that alone is said.
    """
    try:
        found = _of_cann()
        if found is not None:
            yield found
            return
        yield from _of_package()
        yield from node.obstacles(soc_name())
    except (OSError, CannError) as error:  # of another user, or no name that a file can have
        yield f"{error}; see docs/ascend_reference.md"


def _of_cann() -> str | None:
    opp = os.environ.get("ASCEND_OPP_PATH")
    if not opp:
        return (
            "ASCEND_OPP_PATH is not set: source CANN's set_env.sh, by default in "
            f"{' or '.join(DEFAULT_PLACES)}"
        )
    # Where mindspore.ops.Custom looks.
    header = Path(opp.split("opp", maxsplit=1)[0]) / "include" / "acl" / "acl_base.h"
    if not header.is_file():
        return (
            f"{header} is missing: ASCEND_OPP_PATH={opp} does not name the opp directory of a "
            "CANN toolkit; install the toolkit and source its set_env.sh"
        )
    if shutil.which("g++") is None:
        return "g++ is missing, with which mindspore.ops.Custom registers operators: install it"
    return None


def _of_package() -> Iterator[str]:
    try:
        state = status()
    except (InstallError, CannError) as error:
        yield f"{error}; see docs/ascend_reference.md"
        return
    place = state["location"]
    if not state["installed"]:
        yield f"the operator package is not installed in {place}: run `bn3d opp install`"
        return
    package = f"the operator package in {place}"
    found = (
        (
            state["version"] != bn3d.__version__,
            f"{package} is of bn3d {state['version']}, this is {bn3d.__version__}: "
            "run `bn3d opp install`",
        ),
        (
            not state["accepted"],
            f"{package} was built with CANN {state['built_with']}, and CANN {state['cann']} does "
            "not load it: run `bn3d opp install`, which builds it anew",
        ),
        (
            state["damaged"],
            f"{package} is damaged ({', '.join(state['damaged'])}): run `bn3d opp install`",
        ),
        (
            not state["searched"],
            f"CANN does not search {place}, where the operator package is: source "
            f"{place}/bin/set_env.bash",
        ),
        (
            state["shadowed_by"],
            f"{state['shadowed_by']} has operators of the same names and comes before {place}: "
            "remove it, or put bn3d first in vendors/config.ini or ASCEND_CUSTOM_OPP_PATH",
        ),
        (
            soc_name() not in (None, *state["socs"]),
            f"{package} has kernels for {', '.join(state['socs'])}, the device is {soc_name()}: "
            "there is nothing to install, bn3d has none for it",
        ),
    )
    yield from (text for holds, text in found if holds)
