"""Installs and removes the operator package in a vendors/ directory. Runs on Python 3.7.

The new tree is written beside the old one and swapped in by renaming, the config.ini of an opp is
replaced as a whole, and a failure puts back what was. What an interrupted run leaves behind is
put right by the next one. A lock keeps two runs apart.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from . import cann
from .payload import InstallError, Package
from .record import RECORD, is_installed, read_record
from .vendors import (
    VENDOR,
    Config,
    custom_entries,
    default_vendors_dir,
    is_searched_by_config,
)

__all__ = ["install", "target", "uninstall"]

SET_ENV = "bin/set_env.bash"
_STAGED = "." + VENDOR + ".new"
_REPLACED = "." + VENDOR + ".old"
_LOCK = "." + VENDOR + ".lock"


def target(path: Path | None, environment: Mapping[str, str] = os.environ) -> Path:
    """The vendors/ directory that `path` or the environment names.

    Args:
        path: an opp or any other directory, existing or not; bn3d goes to `path`/vendors/bn3d.
        environment: asked if `path` is None.

    Raises:
        InstallError: neither says where, or this user may not look there.
    """
    if path is not None:
        return Path(path).absolute() / "vendors"
    vendors = default_vendors_dir(environment)
    if vendors is None:
        raise InstallError(
            "no place to install to: source CANN's set_env.sh, which sets ASCEND_OPP_PATH, or "
            "name a directory with --path"
        )
    # A place of bn3d's own may be gone, after an uninstall, and is made again.
    ours = any(Path(entry).name == VENDOR for entry in custom_entries(environment))
    with _explained(vendors, 0):
        there = vendors.parent.is_dir()
    if not ours and not there:
        raise InstallError(f"{vendors.parent} does not exist; is CANN's set_env.sh sourced?")
    return vendors.absolute()


def install(
    package: Package, path: Path | None = None, environment: Mapping[str, str] = os.environ
) -> Path:
    """Install or upgrade; returns the vendor directory.

    Raises:
        InstallError: with the reason; everything is as it was.
    """
    vendors = target(path, environment)
    with _explained(vendors, package.size):
        by_config = is_searched_by_config(vendors, environment)
        _check_machine(package, vendors, by_config, environment)
        if not by_config and ":" in str(vendors):
            raise InstallError(f"{vendors} has a colon, which ASCEND_CUSTOM_OPP_PATH separates by")
        created = _make_dirs(vendors)
        try:
            with _locked(vendors):
                _recover(vendors)
                return _install(package, vendors, by_config, created)
        except BaseException:
            _remove_dirs(created)
            raise


def uninstall(path: Path | None = None, environment: Mapping[str, str] = os.environ) -> Path:
    """Remove the installed package; returns the directory that was removed.

    Raises:
        InstallError: with the reason; everything is as it was.
    """
    vendors = target(path, environment)
    place = vendors / VENDOR
    with _explained(vendors, 0):
        if not vendors.is_dir():
            raise InstallError(f"bn3d is not installed in {vendors}")
        with _locked(vendors):
            _recover(vendors)
            if not is_installed(place):
                raise InstallError(f"bn3d is not installed in {vendors}")
            record = read_record(place) or {"config": None, "created": []}
            # Only what install can have made: whoever wrote that file is not trusted with more.
            parents = [str(vendors), *map(str, vendors.parents)]
            created = [Path(name) for name in record["created"] if name in parents]
            config = Config(vendors / "config.ini")
            config.remove(VENDOR, record["config"])
            try:
                # Out of sight at once: from here on the tree is a leftover for _recover.
                place.rename(vendors / _STAGED)
            except BaseException:
                config.restore()
                raise
            _remove(vendors / _STAGED)
        _remove_dirs(created)
    return place


def _install(package: Package, vendors: Path, by_config: bool, created: list) -> Path:
    place, staged, replaced = (vendors / name for name in (VENDOR, _STAGED, _REPLACED))
    config = Config(vendors / "config.ini")
    record = read_record(place)
    if record is None:
        if os.path.lexists(str(place)) and not is_installed(place):
            raise InstallError(f"{place} exists but was not installed by bn3d; move it away first")
        record = {"config": config.text, "created": [str(directory) for directory in created]}
    new = staged  # where the new tree is
    try:
        _write_tree(package.files, staged, place, record)
        if place.exists():
            place.rename(replaced)
        staged.rename(place)
        new = place
        if by_config:
            config.add(VENDOR)
    except BaseException:
        _remove(new)
        if replaced.exists():
            replaced.rename(place)
        raise
    _remove(replaced)
    return place


def _remove(path: Path) -> None:
    """Removes a tree, or a link to one and not the tree."""
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(str(path), ignore_errors=True)


def _write_tree(files: dict, staged: Path, place: Path, record: dict) -> None:
    extra = {
        RECORD: (json.dumps(record, indent=2) + "\n").encode(),
        SET_ENV: os.fsencode(_set_env(place)),  # the bytes of the path, in any locale
    }
    for name, data in {**files, **extra}.items():
        path = staged / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        path.chmod(0o644)
    # Everybody who trains must be able to read it, whatever umask the installing user has.
    for directory in [staged, *(path for path in staged.rglob("*") if path.is_dir())]:
        directory.chmod(0o755)


def _set_env(place: Path) -> str:
    return (
        "# Makes CANN find bn3d outside of its opp directory: source this file.\n"
        f"bn3d_opp={shlex.quote(str(place))}\n"
        'case ":${ASCEND_CUSTOM_OPP_PATH:-}:" in\n'
        '  *":$bn3d_opp:"*) ;;\n'
        '  *) export ASCEND_CUSTOM_OPP_PATH="$bn3d_opp${ASCEND_CUSTOM_OPP_PATH:+:'
        '$ASCEND_CUSTOM_OPP_PATH}" ;;\n'
        "esac\n"
        "unset bn3d_opp\n"
    )


def _check_machine(
    package: Package, vendors: Path, by_config: bool, environment: Mapping[str, str]
) -> None:
    arch, machine = package.info["bn3d_arch"], platform.machine()
    if arch != machine:
        raise InstallError(
            f"the package is for {arch} and this machine is {machine}; "
            f"use the one whose name ends in -{machine}.run"
        )
    version = package.info.get("custom_opp_compiler_version")
    root = vendors.parent.parent if by_config else cann.find(environment)
    if version and root is not None and not cann.accepts(root, version, vendors / VENDOR):
        raise InstallError(
            f"the package was built with CANN {cann.short_version(version)}, and the CANN in "
            f"{root} loads packages of {cann.required_versions(root)} only; build it with that CANN"
        )


def _recover(vendors: Path) -> None:
    """Undo what an interrupted run left: a tree half written, or one half replaced."""
    place, staged, replaced = (vendors / name for name in (VENDOR, _STAGED, _REPLACED))
    if replaced.exists() and not place.exists():
        replaced.rename(place)
    for leftover in (staged, replaced):
        if os.path.lexists(str(leftover)):
            _remove(leftover)


@contextlib.contextmanager
def _locked(vendors: Path) -> Iterator[None]:
    import fcntl  # noqa: PLC0415, Windows has none, where bn3d's other commands work all the same

    path = vendors / _LOCK
    lock = os.open(str(path), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken = path.exists() and os.fstat(lock).st_ino == path.stat().st_ino
        except BlockingIOError:
            taken = False
        if not taken:
            raise InstallError(
                f"another installation is running in {vendors}; try again when it is done"
            )
        try:
            yield
        finally:
            path.unlink()
    finally:
        os.close(lock)


@contextlib.contextmanager
def _explained(vendors: Path, size: int) -> Iterator[None]:
    """Turns the system's errors into ones that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            kib = (size + 1023) // 1024
            reason = f"the disk of {vendors} is full; the package needs {kib} KiB there"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = (
                f"user {os.geteuid()} may not read or write {error.filename or vendors}; run as "
                "its owner, or name another directory with --path"
            )
        else:
            reason = str(error)
        raise InstallError(reason) from error


def _make_dirs(directory: Path) -> list:
    """Creates a directory and its parents; returns those that are new, outermost first."""
    missing: list[Path] = []
    while not directory.exists():
        missing.insert(0, directory)
        directory = directory.parent
    made = []
    try:
        for new in missing:
            new.mkdir(exist_ok=True)  # another run may be as far
            made.append(new)
            new.chmod(0o755)
    except BaseException:
        _remove_dirs(made)
        raise
    return made


def _remove_dirs(directories: list) -> None:
    """Removes those of the directories that are empty, innermost first."""
    for directory in reversed(directories):
        try:
            directory.rmdir()
        except OSError:
            return
