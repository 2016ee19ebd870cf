"""What keeps the operators of the package from running here, each with its remedy."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mindspore._c_expression import MSContext

import bn3d
from bn3d.opp.cann import DEFAULT_PLACES, CannError
from bn3d.opp.payload import InstallError
from bn3d.opp.status import status

__all__ = ["obstacle", "soc_name"]


def soc_name() -> str | None:
    """The device as CANN spells its op-info, "ascend910" or "ascend910b"; None if unknown."""
    return MSContext.get_instance().get_ascend_soc_version() or None


def obstacle() -> str | None:
    """Why the operators cannot be used with the device target Ascend; None if nothing is known."""
    return _of_cann() or _of_package()


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


def _of_package() -> str | None:
    try:
        state = status()
    except (InstallError, CannError) as error:
        return f"{error}; see docs/ascend.md"
    place = state["location"]
    if not state["installed"]:
        return f"the operator package is not installed in {place}: run `bn3d opp install`"
    package = f"the operator package in {place}"
    obstacles = (
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
    return next((text for holds, text in obstacles if holds), None)
