"""`bn3d opp ...` without ssh, which test_deploy.py has."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bn3d.opp import cli
from bn3d.opp.cli import app
from bn3d.opp.payload import Package

from .conftest import REPOSITORY, environment, tree


@pytest.fixture
def runner(node: Path) -> CliRunner:
    return CliRunner(env=environment(node))


def test_install_builds_what_it_installs(
    runner: CliRunner, run_file: Path, node: Path, monkeypatch: pytest.MonkeyPatch
):
    def build(output: Path, arch: str | None) -> Path:
        assert arch is None
        return Path(shutil.copy(run_file, output))

    monkeypatch.setattr(cli, "build_package", build)
    done = runner.invoke(app, ["install"])
    assert done.exit_code == 0, done.output
    assert done.output.rstrip().endswith("active")
    place = node / "opp" / "vendors" / "bn3d"
    assert (place / "version.info").is_file()

    done = runner.invoke(app, ["status", "--json", "-"])
    assert done.exit_code == 0
    assert json.loads(done.output)["location"] == str(place)
    done = runner.invoke(app, ["uninstall"])
    assert done.exit_code == 0 and not place.exists()
    done = runner.invoke(app, ["status"])
    assert done.exit_code == 1 and "is not installed" in done.output


def test_install_takes_a_package(runner: CliRunner, run_file: Path, tmp_path: Path):
    path = tmp_path / "x"
    done = runner.invoke(app, ["install", "--package", str(run_file), "--path", str(path)])
    assert done.exit_code == 0, done.output
    assert "set_env.bash" in done.output
    assert (path / "vendors" / "bn3d").is_dir()


@pytest.mark.parametrize("command", ["install", "uninstall", "status"])
def test_an_empty_path_is_not_this_directory(
    command: str,
    runner: CliRunner,
    run_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    package = ["--package", str(run_file)] if command == "install" else []
    done = runner.invoke(app, [command, "--path", "", *package])
    assert done.exit_code == 2 and "must name a directory, it is empty" in done.output
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (["--path", ""], "path must name a directory on the hosts in full, got ''"),
        (["--path", "~/opp"], "path must name a directory on the hosts in full, got '~/opp'"),
        (["--ssh", ""], "must be a command, it is empty"),
        (["--ssh", "ssh 'x"], "must be a command, got"),
        (["--timeout", "nan"], "must be above 0 and at most 86400 seconds, got nan"),
        (["--timeout", "0"], "must be above 0"),
        (["--timeout", "inf"], "must be above 0"),
    ],
)
def test_what_cannot_be_deployed_with_is_wrong_use(option: list[str], says: str, run_file: Path):
    wanted = ["deploy", "host", "--package", str(run_file), "--ssh", "false"]
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*wanted, *option])
    assert done.exit_code == 2 and says in done.output, done.output


def test_an_installed_wheel_builds_the_package(cann: Path, tmp_path: Path):
    """What the wheel's CMake part installs, beside the Python files, builds the package."""
    site, work = tmp_path / "site", tmp_path / "work"
    configure = [
        "cmake",
        "-S",
        str(REPOSITORY),
        "-B",
        str(work),
        "-DSKBUILD=2",
        "-DBN3D_NATIVE=OFF",
    ]
    subprocess.run(configure, check=True, capture_output=True)
    subprocess.run(["cmake", "--install", work, "--prefix", site], check=True, capture_output=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "python", site, dirs_exist_ok=True, ignore=ignored)
    before = tree(site)
    done = subprocess.run(
        [sys.executable, "-c", "from bn3d.opp.cli import app; app()", "build", "-o", tmp_path],
        env=environment(cann, PYTHONPATH=str(site), PYTHONDONTWRITEBYTECODE="1"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Package.open(Path(done.stdout.strip())).info["bn3d_arch"] == platform.machine()
    assert tree(site) == before  # a site-packages may be read-only


@pytest.mark.parametrize("command", [["build"], ["install"], ["deploy", "host"]])
def test_without_cann_the_error_says_what_to_set(command: list[str]):
    variables = dict.fromkeys(("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME", "ASCEND_OPP_PATH"))
    done = CliRunner(env=variables).invoke(app, command)
    assert done.exit_code == 2
    assert "bn3d: CANN was not found" in done.output


def test_needs_neither_mindspore_nor_numpy():
    """An administrator's machine has neither."""
    program = (
        "import sys\n"
        "for name in ('mindspore', 'numpy', 'torch'): sys.modules[name] = None\n"
        "import bn3d.opp.cli, bn3d.opp.package\n"
    )
    subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        env={"PYTHONPATH": str(REPOSITORY / "python")},
    )
