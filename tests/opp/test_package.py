"""Building the package, and what is in it."""

from __future__ import annotations

import ast
import contextlib
import os
import platform
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import bn3d
from bn3d.operators import OPERATORS
from bn3d.opp import build, package, support
from bn3d.opp.cann import CannError
from bn3d.opp.package import PackageError
from bn3d.opp.payload import InstallError, Package

from .conftest import REPOSITORY, environment, names

MACHINE = platform.machine()
SOCS = [soc.name for soc in support.SOCS]


def test_has_the_tree_that_cann_reads(parsed: Package):
    tbe = "op_impl/ai_core/tbe"
    sources = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / tbe).rglob("*.py")}
    for operator in OPERATORS:
        assert f"{tbe}/bn3d_impl/{operator.module}.py" in sources
        assert f"{tbe}/bn3d_impl/dynamic/{operator.module}.py" in sources
    assert set(parsed.files) == sources | {
        "version.info",
        "SHA256SUMS",
        f"op_proto/lib/linux/{MACHINE}/libcust_opsproto_bn3d.so",
        *(f"{tbe}/config/{soc}/aic-{soc}-ops-info.json" for soc in SOCS),
    }


def test_says_what_it_is(parsed: Package):
    assert parsed.info == {
        "custom_opp_compiler_version": "7.7.0.1.238",
        "bn3d_version": bn3d.__version__,
        "bn3d_arch": MACHINE,
        "bn3d_socs": ",".join(SOCS),
    }
    assert parsed.version == bn3d.__version__


def test_the_file_is_named_by_version_cann_socs_and_architecture(run_file: Path, parsed: Package):
    socs = "-".join(soc.removeprefix("ascend") for soc in SOCS)
    assert run_file.name == f"bn3d-opp-{parsed.version}-cann7.7-{socs}-{MACHINE}.run"
    unknown = {k: v for k, v in parsed.info.items() if k != "custom_opp_compiler_version"}
    assert "-anycann-910-" in package.file_name(unknown)
    assert os.access(run_file, os.X_OK)


def test_the_same_sources_make_the_same_file(parsed: Package, run_file: Path, tmp_path: Path):
    assert package.write(parsed.files, tmp_path).read_bytes() == run_file.read_bytes()


def test_an_output_that_cannot_be_is_refused_before_anything_is_compiled(
    cann: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def compile(*_):
        raise AssertionError("compiled")

    monkeypatch.setattr(build, "_run", compile)
    (tmp_path / "a file").touch()
    for output in ("a file", "a file/out", "/proc/out"):
        with pytest.raises(build.BuildError, match=f"cannot write into .*{output}: "):
            build.build(tmp_path / output, environment=environment(cann))


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_written_file_obeys_the_umask_and_goes_through_links(umask: int, tmp_path: Path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "x.run"
    link.symlink_to("there/real.run")
    before = os.umask(umask)
    try:
        for _ in range(2):
            package.write_file(link, b"data", executable=True)
        package.write_file(tmp_path / "plain", b"data")
    finally:
        os.umask(before)
    assert link.is_symlink() and (tmp_path / "there" / "real.run").read_bytes() == b"data"
    assert stat.S_IMODE(link.stat().st_mode) == 0o777 & ~umask
    assert stat.S_IMODE((tmp_path / "plain").stat().st_mode) == 0o666 & ~umask
    assert names(tmp_path) == ["plain", "there", "x.run"]
    assert names(tmp_path / "there") == ["real.run"]


def test_the_installer_keeps_to_the_python_of_cann_nodes():
    for name in package._INSTALLER:
        source = (REPOSITORY / "python" / "bn3d" / "opp" / name).read_text()
        tree = ast.parse(source, name, feature_version=(3, 7))
        imported = {
            (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
            if not getattr(node, "level", 0)
        }
        assert imported <= sys.stdlib_module_names, name


def test_a_missing_operator_is_no_package(sources: Path, library: Path):
    missing = sources / "op_impl/ai_core/tbe/bn3d_impl/dynamic/bn3d_apply.py"
    missing.unlink()
    with pytest.raises(PackageError, match=r"dynamic/bn3d_apply\.py is missing"):
        package.vendor_tree(sources, library, MACHINE, None)


def test_an_operator_must_be_python_that_cann_reads(sources: Path, library: Path):
    (sources / "op_impl/ai_core/tbe/bn3d_impl/bn3d_apply.py").write_text("if (n := 1): match = \n")
    with pytest.raises(PackageError, match=r"bn3d_apply\.py is no Python 3\.7"):
        package.vendor_tree(sources, library, MACHINE, None)


def test_a_damaged_file_is_refused(run_file: Path, parsed: Package, tmp_path: Path):
    content = run_file.read_bytes()
    damaged = tmp_path / "damaged.run"
    intact = Package.open(run_file).files
    # A flipped bit may hit data, a name, a header or a field that nobody reads.
    for position in range(0, len(content), len(content) // 150):
        flipped = bytearray(content)
        flipped[position] ^= 1
        damaged.write_bytes(flipped)
        with contextlib.suppress(InstallError):
            assert Package.open(damaged).files == intact
    damaged.write_bytes(content[: len(content) // 2])
    with pytest.raises(InstallError, match="not a readable package"):
        Package.open(damaged)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: files.pop("op_impl/ai_core/tbe/bn3d_impl/bn3d_apply.py"), "incomplete"),
        (lambda files: files.update({"more.py": b""}), "incomplete"),
        (lambda files: files.update({"version.info": b"bn3d_version=9"}), "version.info has ch"),
        (lambda files: files.pop("SHA256SUMS"), "has no 'SHA256SUMS'"),
    ],
)
def test_a_changed_tree_is_refused(parsed: Package, change, message: str):
    files = dict(parsed.files)
    change(files)
    with pytest.raises(InstallError, match=message):
        Package(files)


def test_says_what_to_set_without_cann(tmp_path: Path):
    with pytest.raises(CannError, match="set ASCEND_HOME_PATH"):
        build.build(tmp_path, environment={})
    with pytest.raises(CannError, match=r"no CANN headers in .*nowhere"):
        build.build(tmp_path, environment={"ASCEND_HOME_PATH": "/nowhere"})
    with pytest.raises(CannError, match=r"operator_reg\.h cannot be read: File name too long"):
        build.build(tmp_path, environment={"ASCEND_HOME_PATH": "/" + "x" * 300})


@pytest.mark.parametrize(
    ("home", "message"),
    [(None, "CANN was not found"), ("/nowhere", "No CANN headers in /nowhere")],
)
def test_cmake_says_what_to_set_without_cann(home: str | None, message: str, tmp_path: Path):
    variables = {k: v for k, v in os.environ.items() if not k.startswith("ASCEND_")}
    if home:
        variables["ASCEND_TOOLKIT_HOME"] = home
    done = subprocess.run(
        ["cmake", "--preset", "opp", "-B", str(tmp_path)],
        cwd=REPOSITORY,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert message in done.stderr


def test_says_which_machines_it_can_build_for(cann: Path, tmp_path: Path):
    with pytest.raises(build.BuildError, match="cannot build for riscv64"):
        build.build(tmp_path, "riscv64", environment(cann))


def test_says_why_the_compiler_failed(
    cann: Path, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (sources / "op_proto" / "a_broken.cc").write_text("int broken = ;\n")
    monkeypatch.setattr(build, "find_sources", lambda: sources)
    with pytest.raises(build.BuildError, match=r"a_broken\.cc:1"):
        build.build(tmp_path / "out", environment=environment(cann))
    assert not list((tmp_path / "out").glob("*"))


def test_the_script_leaves_one_package(cann: Path, sources: Path):
    """docs/ascend.md names it by a pattern. CANN may be named from where the caller is."""
    (sources / "scripts").symlink_to(REPOSITORY / "scripts")
    earlier = sources / "build" / "opp" / f"bn3d-opp-0.0.1-cann7.6-910-{MACHINE}.run"
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    script = sources / "scripts" / "build_opp.sh"
    done = subprocess.run(
        [script],
        cwd=cann.parent,
        env=environment(Path(cann.name)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = earlier.parent.glob("*.run")
    assert done.stdout.endswith(f"build/opp/{built.name}\n")
    assert Package.open(built).version == bn3d.__version__


@pytest.mark.skipif(
    MACHINE == "aarch64" or not shutil.which("aarch64-linux-gnu-g++"),
    reason="no cross compiler: apt-get install g++-aarch64-linux-gnu",
)
def test_builds_for_aarch64_nodes(cann: Path, tmp_path: Path):
    run_file = build.build(tmp_path, "aarch64", environment(cann))
    built = Package.open(run_file)
    (library,) = [data for name, data in built.files.items() if name.endswith(".so")]
    assert run_file.name.endswith("-aarch64.run")
    assert built.info["bn3d_arch"] == "aarch64"
    assert library[:4] == b"\x7fELF"
    assert int.from_bytes(library[18:20], "little") == 183  # EM_AARCH64
