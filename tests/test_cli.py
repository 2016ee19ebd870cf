"""The command line: every command is there, and errors are lines, not tracebacks."""

import pytest
from typer.testing import CliRunner

from bn3d.cli import app

runner = CliRunner()


@pytest.mark.parametrize("command", ["info", "demo", "bench", "convert", "opp", "verify"])
def test_every_command_has_help(command):
    result = runner.invoke(app, [command, "--help"])
    assert result.exit_code == 0, result.output


def test_info_shows_the_backend_and_the_library():
    result = runner.invoke(app, ["info"], env={"BN3D_BACKEND": "auto", "COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    for text in ("MindSpore", "backend", "native", "libbn3d_cpu.so", "threads"):
        assert text in result.output


def test_a_wrong_backend_is_one_line():
    result = runner.invoke(app, ["info"], env={"BN3D_BACKEND": "cuda"})
    assert result.exit_code == 2
    assert "BN3D_BACKEND must be one of" in result.output
    assert "Traceback" not in result.output
