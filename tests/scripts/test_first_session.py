"""The runbook for a first session on a node: its commands, and what it does with failures."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from bn3d.user_code import load

SCRIPT = Path(__file__).parents[2] / "scripts" / "ascend_first_session.sh"

# A python that says what it was asked and fails where the test wants it.
PYTHON = """#!/bin/sh
echo "asked: $*"
case "$*" in *"$FAILS"*) exit 3;; esac
"""


@pytest.fixture
def session(tmp_path):
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)

    def run(*arguments, fails="nothing"):
        return subprocess.run(
            ["bash", str(SCRIPT), *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHON": str(python), "FAILS": fails},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def test_a_dry_run_shows_every_command_and_writes_nothing(session, tmp_path):
    done = session("--dry-run", "results")
    assert done.returncode == 0
    steps = [line.split(":")[0][3:] for line in done.stdout.splitlines()]
    assert steps == [
        "1-environment",
        "2-pip",
        "3-install",
        "4-status",
        "5-info",
        "6-verify",
        "7-check",
        "8-bench",
        "9-train",
        "archive",
    ]
    assert "verify --device Ascend --json results/verify.json" in done.stdout
    assert "bn3d info --probe" in done.stdout
    assert "check train_video:to_check --beside --device Ascend" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["python"]


def test_all_logs_are_in_the_archive(session, tmp_path):
    done = session("results")
    assert done.returncode == 0, done.stderr
    assert "all steps passed" in done.stdout
    with tarfile.open(tmp_path / "results.tar.gz") as archive:
        logs = {Path(name).name for name in archive.getnames()}
        verify = archive.extractfile("results/6-verify.log").read().decode()
    assert {"1-environment.log", "2-pip.log", "7-check.log", "9-train.log"} <= logs
    assert verify.startswith("asked: -m bn3d verify --device Ascend")
    assert verify.endswith("exit code 0\n")


def test_a_step_that_fails_stops_no_other_and_is_named(session, tmp_path):
    done = session("results", fails="verify")
    assert done.returncode == 1
    assert "failed: 6-verify; results.tar.gz has the logs" in done.stderr
    assert "exit code 3" in (tmp_path / "results" / "6-verify.log").read_text()
    assert (tmp_path / "results" / "9-train.log").exists()


def test_the_owner_s_network_is_checked(session, monkeypatch):
    monkeypatch.setenv("CHECK", "their.module:network")
    assert "check their.module:network --beside" in session("--dry-run").stdout


def test_the_network_that_is_checked_is_there(monkeypatch):
    """What `bn3d check` is told to load, with a batch that goes through it."""
    monkeypatch.syspath_prepend(str(SCRIPT.parents[1] / "examples"))
    network, video = load("train_video:to_check", "BUILD")()
    assert network.training and network(video).shape == (4, 4)


def test_without_an_installation_nothing_else_is_tried(session, tmp_path):
    done = session("results", fails="pip install")
    assert done.returncode == 1
    assert not (tmp_path / "results" / "3-install.log").exists()
    assert (tmp_path / "results.tar.gz").exists()
