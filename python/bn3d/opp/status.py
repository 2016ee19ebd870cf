"""What is installed, and whether CANN uses it. Runs on Python 3.7."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from . import cann
from .installer import target
from .payload import InstallError, parse_sums, read_info
from .record import RECORD, is_installed, read_record
from .vendors import VENDOR, search_order

__all__ = ["is_state", "report", "show", "status"]

_PARTS = ("op_impl/", "op_proto/", "version.info")  # of every package


def status(path: Path | None = None, environment: Mapping[str, str] = os.environ) -> dict:
    """The state of the installation that `path` or the environment names.

    Returns:
        location: of the vendor directory.
        installed: whether it holds bn3d; if not, only location, installed and active are there.
        version, arch, built_with: of the package; built_with is CANN's version or None.
        socs: list of names.
        cann: the version of the CANN of this environment, or None.
        accepted: whether that CANN loads a package of `built_with`.
        damaged: files that are missing or changed.
        searched: whether CANN looks there.
        shadowed_by: an earlier vendor directory that has one of the same operators, or None.
        active: CANN will use it: all is well.

    Raises:
        InstallError: neither `path` nor the environment says where, or a file cannot be read.
    """
    place = target(path, environment) / VENDOR
    try:
        return _status(place, environment)
    except OSError as error:
        raise InstallError(f"{error.filename} cannot be read: {error.strerror}") from error


def is_state(answer: object) -> bool:
    """Whether `answer`, from another machine, is a result of `status`."""
    if not isinstance(answer, dict) or not isinstance(answer.get("location"), str):
        return False
    kinds = {"version": str, "damaged": list, "searched": bool, "active": bool, "accepted": bool}
    return answer.get("installed") is False or (
        all(isinstance(answer.get(key), kind) for key, kind in kinds.items())
        and all(isinstance(name, str) for name in answer["damaged"])
        and isinstance(answer.get("shadowed_by"), (str, type(None)))
    )


def _status(place: Path, environment: Mapping[str, str]) -> dict:
    result = {"location": str(place), "installed": False, "active": False}
    if not is_installed(place):
        return result
    info = read_info(place)
    root = cann.find(environment)
    order = search_order(environment)
    searched = [_real(directory) for directory in order]
    index = searched.index(_real(place)) if _real(place) in searched else None
    ours = _operators(place)
    earlier = order[:index] if index is not None else []
    shadows = [str(other) for other in earlier if _operators(other) & ours]
    version = info.get("custom_opp_compiler_version")
    accepted = not version or root is None or cann.accepts(root, version, place)
    result.update(
        installed=True,
        version=info.get("bn3d_version", "unknown"),
        arch=info.get("bn3d_arch", "unknown"),
        built_with=version,
        socs=info.get("bn3d_socs", "").split(","),
        cann=cann.compiler_version(root) if root is not None else None,
        accepted=accepted,
        damaged=sorted(_damaged(place)),
        searched=index is not None,
        shadowed_by=shadows[0] if shadows else None,
    )
    result["active"] = bool(
        result["searched"] and accepted and not result["damaged"] and not shadows
    )
    return result


def report(state: dict) -> str:
    """`status` in words."""
    if not state["installed"]:
        return "bn3d is not installed in {}".format(state["location"])
    lines = [
        "bn3d {} for {}".format(state["version"], state["arch"]),
        "location  {}".format(state["location"]),
        "SoCs      {}".format(", ".join(state["socs"])),
        "CANN      built with {}, here {}".format(
            state["built_with"] or "an unknown one", state["cann"] or "none found"
        ),
    ]
    if state["damaged"]:
        lines.append("damaged   {}".format(", ".join(state["damaged"])))
    if not state["accepted"]:
        lines.append("ignored   this CANN does not load packages of that version")
    if not state["searched"]:
        lines.append(
            "not used  CANN does not search there: source {}/bin/set_env.bash".format(
                state["location"]
            )
        )
    if state["shadowed_by"]:
        lines.append("shadowed  by the same operators in {}".format(state["shadowed_by"]))
    if state["active"]:
        lines.append("active")
    return "\n".join(lines)


def show(state: dict, output: str | None = None) -> None:
    """Print `state` in words; as JSON with "-"; or write that into the file `output`.

    Raises:
        InstallError: the file cannot be written.
    """
    if output is None or output == "-":
        print(report(state) if output is None else json.dumps(state))
        return
    try:
        _write(Path(output), json.dumps(state) + "\n")
    except OSError as error:
        raise InstallError(f"cannot write {output}: {error.strerror}") from error
    print(f"wrote {output}")


def _write(path: Path, text: str) -> None:
    """Write all of a file or leave it as it is; a link stays one."""
    if path.exists() and not path.is_file():  # a pipe, say, which nothing can take the place of
        path.write_text(text)
        return
    place = Path(os.path.realpath(str(path)))
    partial = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        partial.write_text(text)
        partial.replace(place)
    except BaseException:
        if partial.exists():
            partial.unlink()
        raise


def _operators(vendor: Path) -> set:
    """The operator types that a vendor directory provides."""
    types = set()
    for path in (vendor / "op_impl" / "ai_core" / "tbe" / "config").glob("*/*.json"):
        try:
            info = json.loads(path.read_text()) if path.is_file() else None
        except (OSError, ValueError):
            continue  # not ours to judge, and CANN skips it too
        types |= set(info) if isinstance(info, dict) else set()
    return types


def _damaged(place: Path) -> set:
    """The files that are missing or changed, among them a list of files that is itself cut."""
    try:
        sums = parse_sums((place / "SHA256SUMS").read_text("utf-8", "replace"))
    except (FileNotFoundError, InstallError):
        sums = {}
    damaged = {name for name, digest in sums.items() if _sha256(place / name) != digest}
    # The last in the list is version.info, so one that ends early lacks it.
    if not all(any(name.startswith(part) for name in sums) for part in _PARTS):
        damaged.add("SHA256SUMS")
    try:
        lost = read_record(place) is None
    except InstallError:
        lost = True
    return damaged | ({RECORD} if lost else set())


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    except (OSError, ValueError):
        return None


def _real(path: Path) -> str:
    return os.path.realpath(str(path))
