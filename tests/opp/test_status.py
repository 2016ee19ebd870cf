"""What `status` says about an installation, and the command line around it."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bn3d.opp.installer import install, uninstall
from bn3d.opp.payload import InstallError, Package
from bn3d.opp.status import report, show, status
from bn3d.opp.support import SOCS

from .conftest import environment, names, tree

REDUCE = "op_impl/ai_core/tbe/bn3d_impl/bn3d_reduce.py"


@pytest.fixture
def place(node: Path, parsed: Package) -> Path:
    return install(parsed, environment=environment(node))


def run(run_file: Path, node: Path, *arguments: str, **variables: str):
    return subprocess.run(
        [sys.executable, str(run_file), *arguments],
        env=environment(node, **variables),
        capture_output=True,
        text=True,
        check=False,
    )


def provide(directory: Path, *op_types: str) -> Path:
    """Make a vendor directory that provides operators."""
    config = directory / "op_impl" / "ai_core" / "tbe" / "config" / "ascend910b"
    config.mkdir(parents=True)
    (config / "aic-ascend910b-ops-info.json").write_text(
        json.dumps({op_type: {} for op_type in op_types})
    )
    return directory


def test_a_sound_installation_is_active(node: Path, place: Path, parsed: Package):
    state = status(environment=environment(node))
    assert state == {
        "location": str(place),
        "installed": True,
        "active": True,
        "version": parsed.version,
        "arch": parsed.info["bn3d_arch"],
        "built_with": "7.7.0.1.238",
        "socs": [soc.name for soc in SOCS],
        "cann": "7.7.0.1.238",
        "accepted": True,
        "damaged": [],
        "searched": True,
        "shadowed_by": None,
    }
    words = report(state)
    assert str(place) in words and words.endswith("active")


def test_nothing_installed(node: Path, tmp_path: Path):
    for path in (None, tmp_path / "nowhere"):
        state = status(path, environment(node))
        assert not state["installed"] and not state["active"]
        assert "is not installed" in report(state)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("changed")])
def test_damaged_files_are_named(node: Path, place: Path, damage):
    damage(place / REDUCE)
    state = status(environment=environment(node))
    assert state["damaged"] == [REDUCE]
    assert not state["active"]
    assert REDUCE in report(state)


def test_an_earlier_vendor_with_our_operators_shadows(node: Path, place: Path, tmp_path: Path):
    harmless = provide(tmp_path / "vendors" / "harmless", "Add")
    shadow = provide(tmp_path / "vendors" / "shadow", "Add", "Bn3dApply")
    custom = environment(node, ASCEND_CUSTOM_OPP_PATH=f"{harmless}:{shadow}")
    state = status(node / "opp", custom)
    assert state["shadowed_by"] == str(shadow)
    assert not state["active"]
    assert f"shadowed  by the same operators in {shadow}" in report(state)


def test_a_vendor_before_us_in_the_opp_shadows(node: Path, place: Path):
    shadow = provide(place.parent / "first", "Bn3dReduce")
    (place.parent / "config.ini").write_text("load_priority=first,bn3d\n")
    assert status(environment=environment(node))["shadowed_by"] == str(shadow)
    (place.parent / "config.ini").write_text("load_priority=bn3d,first\n")
    assert status(environment=environment(node))["active"]


def test_broken_op_info_of_another_vendor_shadows_nothing(node: Path, place: Path):
    first = provide(place.parent / "first", "Bn3dReduce")
    next(first.rglob("*.json")).write_text("{")
    (place.parent / "config.ini").write_text("load_priority=first,bn3d\n")
    assert status(environment=environment(node))["active"]


def test_a_vendor_not_in_config_ini_is_not_searched(node: Path, place: Path):
    (place.parent / "config.ini").write_text("load_priority=other\n")
    state = status(environment=environment(node))
    assert not state["searched"] and not state["active"]
    assert "set_env.bash" in report(state)


def test_a_cann_that_was_upgraded_beyond_us(node: Path, place: Path):
    (node / "compiler" / "version.info").write_text(
        'Version=9.0\nrequired_opp_abi_version=">=8.0, <=9.0"\n'
    )
    state = status(environment=environment(node))
    assert not state["accepted"] and not state["active"]
    assert "this CANN does not load" in report(state)


def test_an_unreadable_config_is_named(node: Path, place: Path):
    (place.parent / "config.ini").unlink()
    (place.parent / "config.ini").mkdir()
    with pytest.raises(InstallError, match=r"config\.ini cannot be read"):
        status(environment=environment(node))


def test_the_command_line(run_file: Path, node: Path):
    assert run(run_file, node, "status").returncode == 1
    done = run(run_file, node, "install")
    assert done.returncode == 0 and done.stdout.rstrip().endswith("active")
    done = run(run_file, node, "status", "--json", "-")
    assert done.returncode == 0 and json.loads(done.stdout)["active"]
    done = run(run_file, node, "uninstall")
    assert done.returncode == 0 and "removed" in done.stdout
    done = run(run_file, node, "uninstall")
    assert done.returncode == 2
    assert done.stderr.startswith("error: bn3d is not installed")


def test_a_full_disk_leaves_the_file_as_it_was(
    node: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    state = status(environment=environment(node))
    folder = tmp_path / "out"
    folder.mkdir()
    show(state, str(folder / "state.json"))
    assert json.loads((folder / "state.json").read_text()) == state
    was = tree(folder)
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(InstallError, match=r"state\.json: No space left"):
        show({**state, "active": False}, str(folder / "state.json"))
    assert tree(folder) == was
    with pytest.raises(InstallError, match="File name too long"):
        show(state, str(folder / ("x" * 300)))


def test_json_goes_into_what_is_no_file(run_file: Path, node: Path):
    done = run(run_file, node, "status", "--json", "/dev/stdout")
    assert json.loads(done.stdout.splitlines()[0])["installed"] is False


def test_letters_that_the_terminal_lacks_are_escaped(run_file: Path, node: Path, tmp_path: Path):
    path = str(tmp_path / "caf\u00e9")
    for command in ("install", "uninstall"):
        done = run(run_file, node, command, "--path", path, PYTHONIOENCODING="ascii")
        assert (done.returncode, done.stderr) == (0, "")
        assert "caf\\xe9" in done.stdout


def test_the_command_line_without_an_environment(run_file: Path):
    done = subprocess.run(
        [sys.executable, str(run_file), "install"],
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: no place to install to")


OPTIONS = [
    ([], ["status"]),
    (["--install"], ["--status"]),
    (["--upgrade", "--quiet"], ["--status", "--quiet"]),
]


@pytest.mark.parametrize(("install", "state"), OPTIONS, ids=["none", "install", "quiet upgrade"])
def test_the_options_of_cann_s_own_packages(
    run_file: Path, node: Path, install: list[str], state: list[str]
):
    done = run(run_file, node, *install)
    assert done.returncode == 0, done.stderr
    assert (done.stdout == "") == ("--quiet" in install)
    done = run(run_file, node, *state)
    assert done.returncode == 0
    done = run(run_file, node, "--uninstall", "--quiet")
    assert (done.returncode, done.stdout) == (0, "")
    assert run(run_file, node, *state).returncode == 1


def test_install_path_is_cann_s_name_of_path(run_file: Path, node: Path, tmp_path: Path):
    done = run(run_file, node, "--install", f"--install-path={tmp_path}/x")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x" / "vendors" / "bn3d" / "version.info").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--install", "--uninstall"], "one command at a time, got install and uninstall"),
        (["install", "--json", "-"], "--json is for status only"),
        (["--install-path="], "must name a directory, it is empty"),
        (["--inst"], "unrecognized arguments: --inst"),
        (["remove"], "invalid choice"),
    ],
)
def test_wrong_use_changes_nothing(run_file: Path, node: Path, arguments: list[str], says: str):
    before = tree(node)
    done = run(run_file, node, *arguments)
    assert done.returncode == 2 and says in done.stderr, done.stderr
    assert tree(node) == before


def test_after_uninstall_it_is_not_installed(node: Path, parsed: Package, tmp_path: Path):
    """Whoever sourced its set_env.bash still has the place in the variable."""
    place = install(parsed, tmp_path / "home", environment(node))
    sourced = environment(node, ASCEND_CUSTOM_OPP_PATH=str(place))
    assert status(environment=sourced)["active"]
    uninstall(environment=sourced)
    assert not (tmp_path / "home").exists()
    state = status(environment=sourced)
    assert report(state) == f"bn3d is not installed in {place}"
    assert install(parsed, environment=sourced) == place


@pytest.mark.parametrize("text", ["[[1]]", "3", "null", '{"Bn3dApply": {}}'])
def test_op_info_of_others_may_be_anything(node: Path, place: Path, text: str):
    first = provide(place.parent / "first", "Bn3dReduce")
    next(first.rglob("*.json")).write_text(text)
    (place.parent / "config.ini").write_text("load_priority=first,bn3d\n")
    assert status(environment=environment(node))["active"] == ("Bn3d" not in text)


def cut(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize("name", ["SHA256SUMS", "version.info", "install.json"])
@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        cut,
        lambda path: path.write_text(""),
        lambda path: path.write_text("nonsense\n"),
        lambda path: path.write_bytes(b"\xb3\xa7\n"),
    ],
    ids=["missing", "cut", "empty", "nonsense", "other encoding"],
)
def test_what_says_what_is_installed_is_missed_and_mended(
    name: str, damage, node: Path, place: Path, parsed: Package
):
    damage(place / name)
    state = status(environment=environment(node))
    assert state["damaged"] == [name] and not state["active"]
    assert f"damaged   {name}" in report(state)
    if name == "install.json" and (place / name).exists():
        with pytest.raises(InstallError, match="remove it, and install again"):
            install(parsed, environment=environment(node))
        (place / name).unlink()
    install(parsed, environment=environment(node))
    assert status(environment=environment(node))["active"]
    (place / "install.json").unlink()
    uninstall(environment=environment(node))
    assert names(place.parent) == []


def test_operators_that_are_not_listed_any_more_are_missed(node: Path, place: Path):
    (place / "SHA256SUMS").write_text("")
    for name in ("op_impl", "op_proto"):
        shutil.rmtree(place / name)
    assert status(environment=environment(node))["damaged"] == ["SHA256SUMS"]
