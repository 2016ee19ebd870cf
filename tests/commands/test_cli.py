"""The command line: every command is there, and errors are lines, not tracebacks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import pytest
from typer.main import get_command
from typer.testing import CliRunner

import bn3d
from bn3d.commands import info
from bn3d.commands.cli import app
from bn3d.opp.pairing import advice

runner = CliRunner()
COMMANDS = ["info", "demo", "bench", "check", "convert", "opp", "verify"]


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, option: str):
    result = runner.invoke(app, [command, option])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_is_wrong_use(command: str):
    assert runner.invoke(app, [command, "--no-such-option"]).exit_code == 2


def every_command(command=None, name="bn3d"):
    command = command or get_command(app)
    for below, each in getattr(command, "commands", {}).items():
        yield from every_command(each, f"{name} {below}")
    if not hasattr(command, "commands"):
        yield name, command


def test_an_option_means_the_same_in_every_command():
    """--json writes a file or prints, -o is --output, -h is --help."""
    found: dict[str, set] = {}
    for name, command in every_command():
        for parameter in command.params:
            for option in parameter.opts:
                found.setdefault(option, set()).add(
                    (tuple(sorted(parameter.opts)), parameter.metavar)
                )
        assert set(command.context_settings or {}) <= {"help_option_names"}, name
    assert found["--json"] == {(("--json",), "FILE|-")}
    assert found["-o"] == found["--output"] == {(("--output", "-o"), None)}


def test_version():
    result = runner.invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"bn3d {bn3d.__version__}\n")


def test_info_shows_the_backend_and_the_library():
    result = runner.invoke(app, ["info"], env={"BN3D_BACKEND": "auto", "COLUMNS": "40"})
    assert result.exit_code == 0, result.output
    for text in ("MindSpore", "backend", "native", "libbn3d_cpu.so", "threads"):
        assert text in result.output


def test_info_says_which_backends_the_environment_variable_passes_over(monkeypatch):
    def rows():
        return {name: value for name, value in bn3d.info().rows() if name.startswith("not ")}

    why = "BN3D_BACKEND asks for numpy"
    monkeypatch.setenv("BN3D_BACKEND", "numpy")
    assert rows() == {"not native, because": why, "not composed, because": why}
    for value in ("native", "auto", ""):
        monkeypatch.setenv("BN3D_BACKEND", value)
        assert rows() == {}


def test_a_wrong_backend_is_one_line():
    result = runner.invoke(app, ["info"], env={"BN3D_BACKEND": "cuda"})
    assert result.exit_code == 2
    assert "BN3D_BACKEND must be one of" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", ["bench", "demo"])
def test_a_wrong_backend_ends_a_command_before_its_work(command, tmp_path, monkeypatch):
    monkeypatch.setenv("BN3D_BACKEND", "cuda")
    result = runner.invoke(app, [command, "--quick", "--output", str(tmp_path)])
    assert result.exit_code == 2, result.output
    assert "BN3D_BACKEND must be one of" in result.output
    assert list(tmp_path.iterdir()) == []


def test_info_as_json(tmp_path: Path):
    result = runner.invoke(app, ["info", "--json", "-"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found["backend"] == bn3d.info().backend and found["versions"]["bn3d"] == bn3d.__version__
    result = runner.invoke(app, ["info", "--json", str(tmp_path / "info.json")])
    assert (result.exit_code, result.output) == (0, f"wrote {tmp_path / 'info.json'}\n")
    assert json.loads((tmp_path / "info.json").read_text()) == found


@pytest.mark.parametrize("place", [".", "nowhere/info.json", "/proc/info.json"])
def test_info_to_a_place_that_cannot_be(place: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, ["info", "--json", place])
    assert result.exit_code == 2 and "--json" in result.output and place in result.output


def test_info_has_no_rows_of_cann_without_it(monkeypatch):
    for name in ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME", "ASCEND_OPP_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert not {"CANN", "operator package"} & dict(bn3d.info().rows()).keys()


def test_info_says_where_cann_and_the_package_are(tmp_path: Path, monkeypatch):
    (tmp_path / "compiler").mkdir()
    (tmp_path / "compiler" / "version.info").write_text("Version=8.5.0\n")
    (tmp_path / "opp" / "built-in").mkdir(parents=True)
    monkeypatch.setenv("ASCEND_HOME_PATH", str(tmp_path))
    monkeypatch.setenv("ASCEND_OPP_PATH", str(tmp_path / "opp"))
    monkeypatch.delenv("ASCEND_CUSTOM_OPP_PATH", raising=False)
    monkeypatch.setattr(info.ascend_obstacles, "obstacles", lambda: iter(["do this", "that"]))
    rows = bn3d.info().rows()
    assert ("CANN", f"{tmp_path} (8.5.0)") in rows
    assert dict(rows)["MindSpore for it"] == advice(ms.__version__, "8.5.0", None)
    assert ("operator package", f"{tmp_path}/opp/vendors/bn3d (not installed)") in rows
    assert [text for name, text in rows if name.startswith("to do for Ascend")] == [
        "do this",
        "that",
        "MindSpore's device target is CPU: where `npu-smi info` shows a device, call "
        'mindspore.set_device("Ascend")',
    ]


def run(*arguments: str, without: tuple = (), **variables: str) -> subprocess.CompletedProcess:
    """`python -m bn3d` where some modules are not there."""
    program = (
        "import runpy, sys\n"
        f"sys.modules.update(dict.fromkeys({without!r}))\n"
        "sys.argv[0] = 'bn3d'\n"
        "runpy.run_module('bn3d', run_name='__main__', alter_sys=True)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=variables,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_info_and_version_without_typer_and_rich(child_environment: dict):
    missing = ("typer", "rich")
    done = run("info", "--probe", "--json", "-", without=missing, **child_environment)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["probe"].values()) == {"runs"}
    assert json.loads(done.stdout)["versions"]["bn3d"] == bn3d.__version__
    done = run("--version", without=missing, **child_environment)
    assert (done.returncode, done.stdout) == (0, f"bn3d {bn3d.__version__}\n")


@pytest.mark.parametrize("arguments", [["verify"], ["opp", "status"], ["bench", "--help"]])
def test_other_commands_say_what_they_need(arguments: list[str], child_environment: dict):
    done = run(*arguments, without=("typer",), **child_environment)
    assert done.returncode == 2
    assert done.stderr.startswith(f"bn3d {arguments[0]} needs typer and rich")
    assert done.stderr.endswith("-m pip install typer rich\n")
    assert done.stderr.count("\n") == 1


def test_help_loads_nothing_that_it_does_not_need(child_environment: dict):
    program = (
        "import sys, bn3d.commands.cli\n"
        "heavy = {'mindspore', 'numpy', 'torch', 'matplotlib', 'rich.console'}\n"
        "print(*sorted(heavy & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=child_environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "\n"


def test_python_m_bn3d_is_the_command(child_environment: dict):
    """A whole path stands in a pipe, whatever the terminal's width."""
    done = run("info", **child_environment | {"COLUMNS": "20"})
    assert done.returncode == 0, done.stderr
    assert str(bn3d.info().library) in done.stdout
    assert run("no-such-command", **child_environment).returncode == 2
