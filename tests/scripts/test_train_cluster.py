"""`scripts/train_cluster.sh`: what it would start, and what it starts with an ssh of ours."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "scripts" / "train_cluster.sh"


def run(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess:
    environment = dict(os.environ)
    if path is not None:
        environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}"
    return subprocess.run(
        [SCRIPT, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_dry_run_prints_one_command_a_node():
    result = run("--dry-run", "--devices", "4", "--port", "9000", "--timeout", "60", "--venv",
                 "/opt/my env", "--logs", "logs", "first", "second", "third", "--", "--curve",
                 "a b.csv")  # fmt: skip
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    for node, (line, host) in enumerate(zip(lines, ("first", "second", "third"), strict=True)):
        ssh, terminal, where, command = shlex.split(line)
        assert (ssh, terminal, where) == ("ssh", "-tt", host)
        entered, _, trains = command.partition(" source /opt/my")
        assert entered.startswith(f"cd {REPOSITORY} || exit;")
        assert "/usr/local/Ascend/{cann,ascend-toolkit}/set_env.sh" in entered
        assert shlex.split("source /opt/my" + trains) == [
            *("source", "/opt/my env/bin/activate", "&&"),
            *("MS_NODE_TIMEOUT=60", "MS_RECEIVE_MSG_TIMEOUT=60", "msrun"),
            *("--worker_num=12", "--local_worker_num=4", "--master_addr=first"),
            *("--master_port=9000", f"--node_rank={node}", "--cluster_time_out=60"),
            *("--log_dir=logs", "--join=True", "examples/train_data_parallel.py"),
            *("--device", "Ascend", "--batch", "24", "--curve", "a b.csv"),
        ]


@pytest.mark.parametrize(("failing", "code"), [("none", 0), ("second", 3)])
def test_exit_code_is_that_of_the_nodes(tmp_path, failing, code):
    """The other node would go on for a minute: the failing one ends it."""
    ssh = tmp_path / "ssh"
    sleep = "exec sleep 60" if code else "exit 0"
    ssh.write_text(f'#!/bin/sh\necho "hello from $2"\n[ "$2" = {failing} ] && exit 3\n{sleep}\n')
    ssh.chmod(0o755)
    result = run("first", "second", path=tmp_path)
    assert result.returncode == code, result.stderr
    assert "second: hello from second" in result.stdout
    assert ("a node failed (exit code 3)" in result.stderr) == bool(code)


def test_nodes_that_end_one_after_the_other_are_no_error(tmp_path):
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\nexec sleep "$2"\n')
    ssh.chmod(0o755)
    result = run("0.1", "0.6", "1.1", path=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.fixture
def local_ssh(tmp_path):
    """The PATH of an ssh that runs its command here; the virtual environment's msrun shows CANN."""
    path, venv = tmp_path / "path", tmp_path / "venv"
    for folder in (path, venv / "bin"):
        folder.mkdir(parents=True)
    (venv / "bin" / "activate").write_text(f'PATH="{venv}/bin:$PATH"\n')
    for file, text in (
        (path / "ssh", 'exec bash -c "$3"'),
        (venv / "bin" / "msrun", 'echo "msrun with CANN ${ASCEND_HOME_PATH:-unset}"'),
    ):
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
    return path, venv


def test_cann_is_sourced_before_the_virtual_environment(local_ssh, tmp_path):
    path, venv = local_ssh
    set_env = tmp_path / "set env.sh"
    # It puts a PATH first, and need not end with success.
    set_env.write_text('export ASCEND_HOME_PATH=/cann PATH="/usr/bin:$PATH"\nfalse\n')
    result = run("--set-env", str(set_env), "--venv", str(venv), "host", path=path)
    assert result.returncode == 0, result.stderr
    assert "host: msrun with CANN /cann" in result.stdout


def test_a_set_env_that_is_not_there_ends_the_node(local_ssh, tmp_path):
    path, venv = local_ssh
    missing = tmp_path / "no such.sh"
    result = run("--set-env", str(missing), "--venv", str(venv), "host", path=path)
    assert result.returncode == 2
    assert f"there is no {missing} here" in result.stdout
    assert "msrun" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "no HOST given"),
        (["--devices", "0", "host"], "are numbers above 0, got '0'"),
        (["--port", "many", "host"], "are numbers above 0, got 'many'"),
        (["host", "--port"], "--port needs a value"),
        (["--ports", "1", "host"], "unknown option --ports"),
    ],
)
def test_bad_arguments(arguments, text):
    result = run(*arguments)
    assert result.returncode == 2
    assert text in result.stderr
