"""Failures and interruptions at every step of an installation."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bn3d.opp import installer
from bn3d.opp.installer import install, uninstall
from bn3d.opp.payload import InstallError, Package
from bn3d.opp.status import status
from bn3d.opp.vendors import Config

from .conftest import environment, names, tree

AS_ROOT = os.geteuid() == 0
NOBODY = 65534


@pytest.fixture(params=["fresh", "upgrade"])
def start(request: pytest.FixtureRequest, node: Path, parsed: Package) -> str:
    """Another vendor, and with "upgrade" bn3d already."""
    (node / "opp" / "vendors" / "customize").mkdir(parents=True)
    (node / "opp" / "vendors" / "config.ini").write_text("load_priority=customize\n")
    if request.param == "upgrade":
        install(parsed, environment=environment(node))
    return request.param


class Countdown:
    """Calls `function` a number of times, and `at_zero` instead of the next."""

    def __init__(self, function: Callable, calls: int, at_zero: Callable[[], None]):
        self._function, self._left, self._at_zero = function, calls, at_zero

    def __get__(self, instance: object, owner: type | None = None) -> Callable:
        return lambda *arguments, **options: self(instance, *arguments, **options)

    def __call__(self, *arguments: object, **options: object) -> object:
        self._left -= 1
        if self._left == -1:
            self._at_zero()
        return self._function(*arguments, **options)


# Where the system can fail: (object, attribute, calls that succeed). NOT_REACHED are the steps of
# which a fresh installation has fewer, or an upgrade, which leaves config.ini alone.
NOT_REACHED = {("fresh", "rename", 1), ("upgrade", "replace", 0)}
STEPS = [
    *((os, "fsync", calls) for calls in (0, 1, 5)),
    *((Path, "rename", calls) for calls in (0, 1)),
    (Path, "mkdir", 0),
    (Config, "add", 0),
    (Path, "replace", 0),
]
steps = pytest.mark.parametrize(
    ("place", "name", "calls"), STEPS, ids=[f"{name}{calls}" for _, name, calls in STEPS]
)


@steps
@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "I/O error"), KeyboardInterrupt()], ids=["error", "interrupt"]
)
def test_a_failure_changes_nothing(
    start, node: Path, parsed: Package, monkeypatch, place, name, calls, error
):
    was = tree(node)

    def fail() -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(place, name, Countdown(getattr(place, name), calls, fail))
        try:
            install(parsed, environment=environment(node))
        except (InstallError, KeyboardInterrupt):
            assert tree(node) == was
            assert (start, name, calls) not in NOT_REACHED
        else:
            assert (start, name, calls) in NOT_REACHED


@steps
def test_the_next_run_puts_right_what_a_killed_one_left(
    start, node: Path, parsed: Package, place, name, calls
):
    child = os.fork()
    if child == 0:
        try:
            setattr(place, name, Countdown(getattr(place, name), calls, lambda: os._exit(9)))
            install(parsed, environment=environment(node))
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == (0 if (start, name, calls) in NOT_REACHED else 9)
    # Whatever CANN finds now, it is whole.
    state = status(environment=environment(node))
    assert not state["installed"] or not state["damaged"]

    install(parsed, environment=environment(node))
    assert status(environment=environment(node))["active"]
    vendors = node / "opp" / "vendors"
    assert names(vendors) == ["bn3d", "config.ini", "customize"]
    assert (vendors / "config.ini").read_text() == "load_priority=bn3d,customize\n"
    uninstall(environment=environment(node))
    assert names(vendors) == ["config.ini", "customize"]
    assert (vendors / "config.ini").read_text() == "load_priority=customize\n"


@pytest.mark.parametrize(("place", "name"), [(Path, "rename"), (Path, "replace")])
def test_a_failing_uninstall_changes_nothing(node: Path, parsed: Package, monkeypatch, place, name):
    (node / "opp" / "vendors").mkdir()
    (node / "opp" / "vendors" / "config.ini").write_text("load_priority=customize\n")
    install(parsed, environment=environment(node))
    was = tree(node)

    def fail() -> None:
        raise OSError(errno.EIO, "I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(place, name, Countdown(getattr(place, name), 0, fail))
        with pytest.raises(InstallError, match="I/O error"):
            uninstall(environment=environment(node))
    assert tree(node) == was


def test_a_full_disk_is_named(start, node: Path, parsed: Package, monkeypatch):
    was = tree(node)

    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", Countdown(os.fsync, 3, fail))
        with pytest.raises(InstallError, match=r"the disk of .*vendors is full; .* \d+ KiB"):
            install(parsed, environment=environment(node))
    assert tree(node) == was


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(disk)]
    if not AS_ROOT or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_really_full_disk_is_left_as_it_was(small_disk: Path, node: Path, parsed: Package):
    with pytest.raises(InstallError, match="is full"):
        install(parsed, small_disk, environment(node))
    assert tree(small_disk) == {}


@pytest.fixture
def public_directory(run_file: Path) -> Iterator[tuple[Path, Path]]:
    """A directory that any user may enter, as tmp_path is not, and a copy of the package in it."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        copy = Path(name) / run_file.name
        copy.write_bytes(run_file.read_bytes())
        copy.chmod(0o644)
        yield Path(name), copy


def run_as_nobody(run_file: Path, *arguments: str, **variables: str):
    """Run the package as a user without rights, who is the present one if that is not root."""
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if AS_ROOT else {}
    return subprocess.run(
        ["/usr/bin/env", "python3", str(run_file), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin" if AS_ROOT else os.environ["PATH"], **variables},
        **user,
    )


def test_without_permission_it_says_who_may_not_write_where(public_directory):
    directory, run_file = public_directory
    vendors = directory / "opp" / "vendors"
    vendors.mkdir(parents=True)
    vendors.chmod(0o555)
    done = run_as_nobody(run_file, "install", "--path", str(directory / "opp"))
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"error: user {NOBODY if AS_ROOT else os.geteuid()} may not read or write"
    )
    assert str(vendors) in done.stderr and "--path" in done.stderr
    assert names(vendors) == []
    vendors.chmod(0o755)


@pytest.mark.parametrize("command", ["install", "uninstall", "status"])
@pytest.mark.parametrize("by", ["--path", "ASCEND_OPP_PATH", "ASCEND_HOME_PATH", "a long name"])
def test_a_place_that_may_not_be_looked_at_is_named(command: str, by: str, public_directory):
    directory, run_file = public_directory
    private = directory / "private"
    (private / "opp").mkdir(parents=True)
    private.chmod(0)
    arguments, variables = [], {"ASCEND_OPP_PATH": str(private / "opp")}
    if by == "--path":
        arguments = ["--path", str(private / "opp")]
    elif by == "a long name":
        arguments = ["--path", str(directory / ("x" * 300))]
    elif by == "ASCEND_HOME_PATH":
        arguments = ["--path", str(directory / "new")]
        variables = {"ASCEND_HOME_PATH": str(private)}
    done = run_as_nobody(run_file, command, *arguments, **variables)
    private.chmod(0o755)
    if (command, by) == ("status", "ASCEND_HOME_PATH"):  # there is nothing to compare CANN with
        assert (done.returncode, done.stderr) == (1, "")
        return
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert by == "a long name" or str(private) in line or "not installed" in line
    assert names(directory) == [run_file.name, "private"]
    assert names(private / "opp") == []


def test_a_second_run_at_the_same_time_is_refused(start, node: Path, parsed: Package):
    lock = node / "opp" / "vendors" / installer._LOCK
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        was = tree(node)
        for action in (
            lambda: install(parsed, environment=environment(node)),
            lambda: uninstall(environment=environment(node)),
        ):
            with pytest.raises(InstallError, match="another installation is running"):
                action()
        assert tree(node) == was
    install(parsed, environment=environment(node))  # a lock file alone holds nobody up


def test_many_at_once_leave_one_whole_installation(node: Path, run_file: Path):
    command = [sys.executable, str(run_file), "install"]
    runs = [
        subprocess.Popen(
            command,
            env=environment(node),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    errors = [run.communicate()[1] for run in runs]
    assert any(run.returncode == 0 for run in runs)
    for run, error in zip(runs, errors, strict=True):
        assert run.returncode == 0 or "another installation is running" in error
    assert status(environment=environment(node))["active"]
    assert names(node / "opp" / "vendors") == ["bn3d", "config.ini"]
