"""Installing, upgrading and removing: what changes, and that nothing else does."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from pathlib import Path

import pytest

from bn3d.opp.installer import install, target, uninstall
from bn3d.opp.payload import InstallError, Package
from bn3d.opp.status import status

from .conftest import environment, names, tree


def other_vendor(node: Path, name: str) -> Path:
    directory = node / "opp" / "vendors" / name
    directory.mkdir(parents=True)
    (directory / "version.info").write_text("custom_opp_compiler_version=7.6.0\n")
    return directory


def changed(package: Package, **info: str) -> Package:
    """`package` with other lines in version.info."""
    lines = {**package.info, **info}
    files = {**package.files, "version.info": "\n".join(map("=".join, lines.items())).encode()}
    del files["SHA256SUMS"]
    sums = [f"{hashlib.sha256(data).hexdigest()}  {name}" for name, data in files.items()]
    return Package({**files, "SHA256SUMS": "\n".join(sums).encode()})


def with_file(package: Package, name: str) -> Package:
    """`package` of an earlier version that had one more file."""
    data = b"# stale\n"
    sums = package.files["SHA256SUMS"] + f"{hashlib.sha256(data).hexdigest()}  {name}\n".encode()
    return changed(Package({**package.files, name: data, "SHA256SUMS": sums}), bn3d_version="0.0.1")


def test_installs_into_an_opp_without_vendors(node: Path, parsed: Package):
    place = install(parsed, environment=environment(node))
    assert place == node / "opp" / "vendors" / "bn3d"
    for name, data in parsed.files.items():
        assert (place / name).read_bytes() == data
    assert (node / "opp" / "vendors" / "config.ini").read_text() == "load_priority=bn3d\n"
    assert status(environment=environment(node))["active"]
    assert names(node / "opp" / "vendors") == ["bn3d", "config.ini"]


@pytest.mark.parametrize(
    ("before", "installed"),
    [
        (None, "load_priority=bn3d\n"),
        ("", "load_priority=bn3d\n"),
        ("load_priority=\n", "load_priority=bn3d\n"),
        ("load_priority=customize\n", "load_priority=bn3d,customize\n"),
        ("load_priority=bn,mybn3d,bn3d_old\n", "load_priority=bn3d,bn,mybn3d,bn3d_old\n"),
        ("load_priority=a, b\n# kept\nother=1\n", "load_priority=bn3d,a, b\n# kept\nother=1\n"),
        ("load_priority=a,b", "load_priority=bn3d,a,b"),
        ("load_priority=a,b\r\nother=1\r\n", "load_priority=bn3d,a,b\r\nother=1\r\n"),
        ("load_priority=a\nload_priority=b\n", "load_priority=bn3d,a\nload_priority=b\n"),
        ("load_priority=\nload_priority=b\n", "load_priority=bn3d\nload_priority=b\n"),
        # The engine reads the first line, whatever its key.
        ("\ufeffload_priority=a,b\n", "\ufeffload_priority=bn3d,a,b\n"),
        ("priority=a,b\n", "priority=bn3d,a,b\n"),
        ("# first\nload_priority=a\n", "load_priority=bn3d\n# first\nload_priority=a\n"),
        # A comment in GBK.
        ("load_priority=a\n# \udcb3\udca7\n", "load_priority=bn3d,a\n# \udcb3\udca7\n"),
    ],
)
def test_uninstall_restores_what_was(
    node: Path, parsed: Package, before: str | None, installed: str
):
    """Whole names count: bn, mybn3d and bn3d_old are other vendors."""
    other_vendor(node, "bn")
    config = node / "opp" / "vendors" / "config.ini"
    if before is not None:
        config.write_bytes(os.fsencode(before))
        config.chmod(0o640)
    was = tree(node)
    install(parsed, environment=environment(node))
    assert config.read_bytes() == os.fsencode(installed)
    assert status(environment=environment(node))["active"]
    if before is not None:
        assert stat.S_IMODE(config.stat().st_mode) == 0o640
    uninstall(environment=environment(node))
    assert tree(node) == was
    assert before is None or config.read_bytes() == os.fsencode(before)


@pytest.mark.parametrize(
    ("before", "then", "left"),
    [
        (None, "load_priority=bn3d\nother=1\n", "load_priority=\nother=1\n"),
        ("load_priority=\n", "load_priority=bn3d\n# admin\n", "load_priority=\n# admin\n"),
        ("load_priority=a\n# b\n", "load_priority=bn3d\n# b\n", "load_priority=\n# b\n"),
        ("load_priority=a\n", "load_priority=bn3d\n", None),
        ("load_priority=bn3d\n", "load_priority=bn3d\n", None),  # of one that was deleted
    ],
)
def test_uninstall_keeps_lines_that_came_later(
    node: Path, parsed: Package, before: str | None, then: str, left: str | None
):
    other_vendor(node, "bn")
    config = node / "opp" / "vendors" / "config.ini"
    if before is not None:
        config.write_text(before)
    install(parsed, environment=environment(node))
    config.write_text(then)
    uninstall(environment=environment(node))
    assert (config.read_text() if config.exists() else None) == left


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_config_ini_keeps_its_owner(node: Path, parsed: Package):
    other_vendor(node, "customize")
    config = node / "opp" / "vendors" / "config.ini"
    config.write_text("load_priority=customize\n")
    config.chmod(0o640)
    os.chown(config, 1234, 4321)
    for action in (
        lambda: install(parsed, environment=environment(node)),
        lambda: uninstall(environment=environment(node)),
    ):
        action()
        owner = config.stat()
        assert (owner.st_uid, owner.st_gid, stat.S_IMODE(owner.st_mode)) == (1234, 4321, 0o640)


def test_uninstall_removes_the_directories_that_install_made(node: Path, parsed: Package):
    was = tree(node)
    path = node / "new" / "deeper"
    install(parsed, path, environment(node))
    uninstall(path, environment(node))
    assert tree(node) == was


def test_uninstall_keeps_who_came_later(node: Path, parsed: Package):
    install(parsed, environment=environment(node))
    later = other_vendor(node, "later")
    config = node / "opp" / "vendors" / "config.ini"
    config.write_text("load_priority=later,bn3d\n")
    uninstall(environment=environment(node))
    assert config.read_text() == "load_priority=later\n"
    assert later.is_dir()


def test_upgrade_removes_stale_files_and_keeps_the_priority(node: Path, parsed: Package):
    other_vendor(node, "customize")
    config = node / "opp" / "vendors" / "config.ini"
    config.write_text("load_priority=customize\n")
    was = tree(node)
    stale = "op_impl/ai_core/tbe/bn3d_impl/stale.py"
    place = install(with_file(parsed, stale), environment=environment(node))
    assert (place / stale).exists()
    config.write_text("load_priority=customize,bn3d\n")

    install(parsed, environment=environment(node))
    assert not (place / stale).exists()
    assert config.read_text() == "load_priority=customize,bn3d\n"
    assert status(environment=environment(node))["version"] == parsed.version

    uninstall(environment=environment(node))
    assert tree(node) == was


def test_installing_twice_is_installing_once(node: Path, parsed: Package):
    install(parsed, environment=environment(node))
    once = tree(node)
    install(parsed, environment=environment(node))
    assert tree(node) == once


def test_what_is_installed_can_be_read_by_all(node: Path, parsed: Package):
    before = os.umask(0o077)
    try:
        place = install(parsed, environment=environment(node))
    finally:
        os.umask(before)
    for path in [place, *place.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o755 if path.is_dir() else 0o644), path


class TestDefaultPlace:
    def test_an_entry_of_bn3d_is_upgraded_where_it_is(self, node: Path, tmp_path: Path):
        ours = tmp_path / "a" / "vendors" / "bn3d"
        ours.mkdir(parents=True)
        custom = f"{tmp_path}/b/vendors/other:{ours}"
        assert target(None, environment(node, ASCEND_CUSTOM_OPP_PATH=custom)) == ours.parent

    def test_otherwise_beside_the_first_entry(self, node: Path, tmp_path: Path):
        other = tmp_path / "b" / "vendors" / "other"
        other.mkdir(parents=True)
        custom = f":{tmp_path}/legacy:{other}:"
        assert target(None, environment(node, ASCEND_CUSTOM_OPP_PATH=custom)) == other.parent

    def test_otherwise_in_the_opp(self, node: Path):
        assert target(None, environment(node)) == node / "opp" / "vendors"
        empty = environment(node, ASCEND_CUSTOM_OPP_PATH="")
        assert target(None, empty) == node / "opp" / "vendors"

    def test_path_counts_first(self, node: Path, tmp_path: Path):
        custom = environment(node, ASCEND_CUSTOM_OPP_PATH=f"{tmp_path}/vendors/bn3d")
        assert target(tmp_path / "x", custom) == tmp_path / "x" / "vendors"

    def test_none_is_an_error(self):
        with pytest.raises(InstallError, match=r"source CANN's set_env\.sh.*--path"):
            target(None, {})

    def test_a_missing_opp_is_an_error(self, tmp_path: Path):
        with pytest.raises(InstallError, match="gone does not exist"):
            target(None, {"ASCEND_OPP_PATH": str(tmp_path / "gone")})


class TestOutsideOfTheOpp:
    def source(self, place: Path, start: str) -> str:
        """ASCEND_CUSTOM_OPP_PATH after sourcing set_env.bash twice in a strict shell."""
        script = 'set -eu; . "$1"; . "$1"; printf %s "$ASCEND_CUSTOM_OPP_PATH"'
        variables = {"PATH": os.environ["PATH"]}
        if start:
            variables["ASCEND_CUSTOM_OPP_PATH"] = start
        return subprocess.run(
            ["bash", "-c", script, "bash", str(place / "bin" / "set_env.bash")],
            env=variables,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=True,
        ).stdout

    @pytest.mark.parametrize("name", ["plain", "with space", "quo'te", "dollar$HOME", "\udcff"])
    def test_set_env_makes_cann_find_it(self, node: Path, parsed: Package, tmp_path, name: str):
        place = install(parsed, tmp_path / name, environment(node))
        assert not (place.parent / "config.ini").exists()
        assert not status(tmp_path / name, environment(node))["searched"]
        assert self.source(place, "") == str(place)
        custom = self.source(place, "/x/vendors/other")
        assert custom == f"{place}:/x/vendors/other"
        sourced = environment(node, ASCEND_CUSTOM_OPP_PATH=custom)
        assert status(environment=sourced)["active"]

    def test_installing_again_after_set_env_nests_nothing(
        self, node: Path, parsed: Package, tmp_path: Path
    ):
        place = install(parsed, tmp_path / "x", environment(node))
        sourced = environment(node, ASCEND_CUSTOM_OPP_PATH=self.source(place, "/y/vendors/z"))
        assert install(parsed, environment=sourced) == place
        assert not (place / "vendors").exists()

    def test_a_colon_in_the_path_is_refused(self, node: Path, parsed: Package, tmp_path: Path):
        with pytest.raises(InstallError, match="colon"):
            install(parsed, tmp_path / "a:b", environment(node))
        assert not (tmp_path / "a:b").exists()


class TestRefuses:
    """And changes nothing."""

    @pytest.fixture(autouse=True)
    def untouched(self, node: Path):
        other_vendor(node, "customize")
        (node / "opp" / "vendors" / "config.ini").write_text("load_priority=customize\n")
        was = tree(node)
        yield
        assert tree(node) == was

    @pytest.mark.parametrize("version", ["6.2.0", "7.8.0.1", "8.2.RC1"])
    def test_a_package_of_another_cann(self, node: Path, parsed: Package, version: str):
        package = changed(parsed, custom_opp_compiler_version=version)
        with pytest.raises(InstallError, match=rf"CANN {version[:3]}, .* of >=6\.3, <=7\.7 only"):
            install(package, environment=environment(node))

    def test_a_package_of_another_architecture(self, node: Path, parsed: Package):
        with pytest.raises(InstallError, match=f"for riscv64 and this machine is {os.uname()[4]}"):
            install(changed(parsed, bn3d_arch="riscv64"), environment=environment(node))

    def test_to_uninstall_what_is_not_installed(self, node: Path, tmp_path: Path):
        with pytest.raises(InstallError, match="not installed"):
            uninstall(environment=environment(node))
        with pytest.raises(InstallError, match="not installed"):
            uninstall(tmp_path / "nowhere", environment(node))


def test_refuses_to_replace_what_it_did_not_install(node: Path, parsed: Package):
    foreign = other_vendor(node, "bn3d")
    was = tree(node)
    with pytest.raises(InstallError, match=f"{foreign} exists but was not installed by bn3d"):
        install(parsed, environment=environment(node))
    with pytest.raises(InstallError, match="not installed"):
        uninstall(environment=environment(node))
    assert tree(node) == was


@pytest.mark.parametrize("version", ["6.3.1", "7.7.0.1.238", "7.0"])
def test_takes_every_version_that_cann_takes(node: Path, parsed: Package, version: str):
    install(changed(parsed, custom_opp_compiler_version=version), environment=environment(node))
    assert status(environment=environment(node))["active"]


def test_takes_any_version_where_cann_does_not_say(node: Path, parsed: Package):
    (node / "compiler" / "version.info").write_text("Version=9.9\n")
    install(parsed, environment=environment(node))
    assert status(environment=environment(node))["active"]
