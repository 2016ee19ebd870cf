"""Packages and records that reach beyond vendors/bn3d: refused before anything is written."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bn3d.opp.installer import install, uninstall
from bn3d.opp.payload import InstallError, Package
from bn3d.opp.vendors import Config

from .conftest import environment, tree

FILES = {"version.info": b"bn3d_version=0.1.0\nbn3d_arch=x86_64\nbn3d_socs=ascend910\n"}


def listed(files: dict[str, bytes]) -> dict[str, bytes]:
    """`files` with a SHA256SUMS that is right for them."""
    sums = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items()]
    return {**files, "SHA256SUMS": "".join(sums).encode()}


def write(path: Path, entries: list[tuple[zipfile.ZipInfo | str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, data in entries:
            archive.writestr(entry, data)
    return path


def with_files(path: Path, *names: str) -> Path:
    files = listed({**FILES, **dict.fromkeys(names, b"data")})
    return write(path, [(f"package/{name}", data) for name, data in files.items()])


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return tmp_path / "x.run"


def test_a_plain_one_is_taken(package: Path):
    assert Package.open(with_files(package, "op_impl/a.py", "op_impl/b/a.py")).version == "0.1.0"


@pytest.mark.parametrize(
    "name",
    [
        "../escaped",
        "op_impl/../../../escaped",
        "/escaped",
        "//escaped",
        "./escaped",
        "op_impl/./escaped",
        "op_impl//escaped",
        "op_impl\\..\\escaped",
        "C:escaped",
        ".config.ini.bn3d",
        "-rf",
        "with space",
        "line\nfeed",
        "caf\u00e9",
        "x" * 300,
        "install.json",
        "bin/set_env.bash",
        "BIN/set_env.bash",
    ],
)
def test_a_name_that_must_not_be(name: str, package: Path, node: Path, tmp_path: Path):
    """`install.json` and `bin/` are the installer's own."""
    with_files(package, name)
    before = tree(tmp_path)
    with pytest.raises(InstallError, match="a name that it must not have"):
        install(Package.open(package), environment=environment(node))
    assert tree(tmp_path) == before
    with pytest.raises(InstallError, match="a name that it must not have"):
        Package(listed({**FILES, name: b"data"}))


@pytest.mark.parametrize(
    "names", [("a.py", "A.py"), ("op/a", "OP/b"), ("a", "a/b"), ("a/b", "a"), ("A", "a/b")]
)
def test_names_that_are_one_on_some_file_systems(names: tuple[str, str], package: Path):
    with pytest.raises(InstallError, match="two files of one name"):
        Package.open(with_files(package, *names))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice(package: Path):
    entries = [(f"package/{name}", data) for name, data in listed(FILES).items()]
    with pytest.raises(InstallError, match="two files of one name"):
        Package.open(write(package, [*entries, entries[0]]))


@pytest.mark.parametrize(
    "mode",
    [
        stat.S_IFLNK | 0o777,
        stat.S_IFDIR | 0o755,
        stat.S_IFIFO | 0o644,
        stat.S_IFCHR | 0o644,
        stat.S_IFBLK | 0o644,
        stat.S_IFSOCK | 0o644,
        stat.S_IFREG | stat.S_ISUID | 0o755,
        stat.S_IFREG | stat.S_ISGID | 0o755,
        stat.S_IFREG | stat.S_ISVTX | 0o755,
    ],
    ids=oct,
)
def test_what_is_no_plain_file(mode: int, package: Path):
    entry = zipfile.ZipInfo("package/op_impl")
    entry.external_attr = mode << 16
    files = listed({**FILES, "op_impl": b"/etc/passwd"})
    entries = [(f"package/{name}", data) for name, data in files.items() if name != "op_impl"]
    with pytest.raises(InstallError, match="plain files only"):
        Package.open(write(package, [*entries, (entry, b"/etc/passwd")]))


def test_a_bomb_is_not_unpacked(package: Path, monkeypatch: pytest.MonkeyPatch):
    write(package, [("package/zeros", bytes(65 << 20))])
    assert package.stat().st_size < 1 << 20
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("was unpacked"))
    with pytest.raises(InstallError, match="at most 1000 files of 64 MiB"):
        Package.open(package)
    write(package, [(f"package/{number}", b"") for number in range(1001)])
    with pytest.raises(InstallError, match="it has 1001 of 0 MiB"):
        Package.open(package)


def test_other_compressions_are_not_unpacked(package: Path):
    with zipfile.ZipFile(package, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("package/version.info", b"x")
    with pytest.raises(InstallError, match="compressed otherwise"):
        Package.open(package)


def test_an_encrypted_one_is_named(package: Path):
    content = bytearray(with_files(package).read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(signature)
        while at >= 0:
            content[at + flags] |= 1
            at = content.find(signature, at + 1)
    package.write_bytes(content)
    with pytest.raises(InstallError, match=r"not a readable package: .*encrypted"):
        Package.open(package)


@pytest.mark.parametrize(
    ("info", "says"),
    [
        (b"bn3d_arch=x86_64\n", "must have a bn3d_version, got None"),
        (b"bn3d_version=../x\nbn3d_arch=x86_64\n", "must have a bn3d_version, got '../x'"),
        (b"bn3d_version=1\nbn3d_arch=a/b\n", "must have a bn3d_arch"),
        (b"\xff", "version.info is no text"),
    ],
)
def test_a_version_info_that_says_nothing(info: bytes, says: str):
    with pytest.raises(InstallError, match=says):
        Package(listed({"version.info": info}))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["fifo", "directory"])
def test_what_is_no_file_is_no_package(make: Callable, package: Path):
    make(package)
    with pytest.raises(InstallError, match="it is no file"):
        Package.open(package)


class TestWhatIsInstalled:
    """The record beside it may have been changed; it is trusted with nothing but its own place."""

    @pytest.fixture
    def place(self, node: Path, parsed: Package) -> Path:
        return install(parsed, environment=environment(node))

    def test_uninstall_removes_no_directory_elsewhere(
        self, node: Path, place: Path, tmp_path: Path
    ):
        (tmp_path / "elsewhere").mkdir()
        record = json.loads((place / "install.json").read_text())
        record["created"] += [str(tmp_path / "elsewhere"), str(place.parent / ".." / "built-in")]
        (place / "install.json").write_text(json.dumps(record))
        uninstall(environment=environment(node))
        assert (tmp_path / "elsewhere").is_dir() and (node / "opp" / "built-in").is_dir()

    @pytest.mark.parametrize("text", ["[]", "{}", '{"config": 1, "created": []}', "nonsense"])
    def test_a_damaged_record_changes_nothing(self, node: Path, place: Path, text: str):
        (place / "install.json").write_text(text)
        before = tree(node)
        for action in (uninstall, lambda **where: install(self.package(place), **where)):
            with pytest.raises(InstallError, match=r"install\.json is damaged"):
                action(environment=environment(node))
        assert tree(node) == before

    def package(self, place: Path) -> Package:
        names = (place / "SHA256SUMS").read_text().split()[1::2]
        return Package({name: (place / name).read_bytes() for name in [*names, "SHA256SUMS"]})

    def test_links_are_removed_and_not_what_they_name(
        self, node: Path, place: Path, parsed: Package, tmp_path: Path
    ):
        kept = tmp_path / "kept"
        kept.mkdir()
        (kept / "file").touch()
        for name in (".bn3d.new", ".bn3d.old", ".config.ini.bn3d"):
            (place.parent / name).symlink_to(kept)
        install(parsed, environment=environment(node))
        elsewhere = tmp_path / "elsewhere"
        place.rename(elsewhere)
        place.symlink_to(elsewhere)
        uninstall(environment=environment(node))
        assert not place.is_symlink()
        assert (elsewhere / "version.info").is_file() and (kept / "file").is_file()

    def test_a_lock_that_is_a_link_makes_no_file(self, node: Path, parsed: Package, tmp_path: Path):
        vendors = node / "opp" / "vendors"
        vendors.mkdir()
        (vendors / ".bn3d.lock").symlink_to(tmp_path / "made")
        with pytest.raises(InstallError):
            install(parsed, environment=environment(node))
        assert not (tmp_path / "made").exists()


class TestConfig:
    def test_a_link_stays_one(self, tmp_path: Path):
        (tmp_path / "shared.ini").write_text("load_priority=customize\n")
        (tmp_path / "config.ini").symlink_to("shared.ini")
        Config(tmp_path / "config.ini").add("bn3d")
        assert (tmp_path / "config.ini").is_symlink()
        assert (tmp_path / "shared.ini").read_text() == "load_priority=bn3d,customize\n"

    @pytest.mark.parametrize(
        ("text", "names"),
        [
            ("load_priority=a, b\n", ["a", "b"]),
            ("# first\nload_priority=a\n", []),  # the engine reads the first line alone
            ("\nload_priority=a\n", []),
            ("load_priority=a=b\n", []),
        ],
    )
    def test_has_the_names_that_the_engine_finds(self, text: str, names: list[str], tmp_path: Path):
        (tmp_path / "config.ini").write_text(text)
        config = Config(tmp_path / "config.ini")
        assert config.names == names
        config.add("bn3d")
        assert Config(tmp_path / "config.ini").names[0] == "bn3d"
