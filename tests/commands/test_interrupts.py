"""Ctrl-C: one line on stderr and exit code 130, at whatever moment, and nothing left behind.

MindSpore is imported by most of the commands, which takes seconds; the delays lie before, in and
after that, wherever a machine is then.
"""

from __future__ import annotations

import hashlib
import os
import signal
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

MOMENTS = (0.4, 0.9, 1.6, 2.5, 3.5)  # seconds; before these it is Python's own start
SAID = "bn3d: interrupted\n"


def start(environment: dict, *command: str | Path, cwd: Path | None = None) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def after(process: subprocess.Popen) -> tuple[int, str]:
    """How a process ended, and what it said on stderr."""
    try:
        _, said = process.communicate(timeout=100)
    finally:
        process.kill()
    return process.returncode, said


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 100
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"{path.name} was not made: {process.communicate()}")
        time.sleep(0.02)


def ended(number: int) -> None:
    """Wait until a process has ended."""
    status = Path("/proc") / str(number) / "status"
    deadline = time.monotonic() + 10
    while status.exists() and "(zombie)" not in status.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    "command",
    [
        ["info"],
        ["verify", "--quick"],
        ["bench", "--quick", "--no-kernels", "--output", "out"],
        ["convert", "--net", "nets:net", "in.safetensors", "out.ckpt"],
    ],
    ids=lambda command: command[0],
)
def test_at_several_moments(command: list[str], tmp_path: Path, child_environment: dict):
    (tmp_path / "nets.py").write_text("import mindspore, time\ntime.sleep(60)\n")
    header = (
        b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'  # with it convert gets to nets
    )
    (tmp_path / "in.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    interrupted = 0
    for moment in MOMENTS:
        process = start(child_environment, "-m", "bn3d", *command, cwd=tmp_path)
        time.sleep(moment)
        process.send_signal(signal.SIGINT)
        code, said = after(process)
        if code == 0:
            continue  # its work was done: MindSpore takes a second to leave
        assert (code, said) == (130, SAID), moment
        interrupted += 1
    assert interrupted >= 2


def test_while_mindspore_runs_a_graph(tmp_path: Path, child_environment: dict):
    """MindSpore has a handler of its own then, which sends SIGTERM."""
    program = tmp_path / "program.py"  # MindSpore compiles from a file only
    program.write_text(
        "from bn3d import interrupts\n"
        "interrupts.guard()\n"
        "import pathlib, mindspore as ms\n"
        "ms.set_context(mode=ms.GRAPH_MODE)\n"
        "@ms.jit\n"
        "def step(x):\n"
        "    for _ in range(20): x = x @ x * 1e-3\n"
        "    return x\n"
        "x = ms.ops.ones((300, 300), ms.float32)\n"
        "while True:\n"
        "    step(x).asnumpy(); pathlib.Path('runs').touch()\n"
    )
    process = start(child_environment, program, cwd=tmp_path)
    wait_for(tmp_path / "runs", process)
    process.send_signal(signal.SIGINT)
    assert after(process) == (130, SAID)


CHILD = """
import multiprocessing, os, pathlib, sys, time
from concurrent.futures import ProcessPoolExecutor
from bn3d import interrupts

def work():
    pathlib.Path("child").write_text(str(os.getpid()))
    time.sleep(60)

if __name__ == "__main__":
    interrupts.guard()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(work).result()
"""


def test_processes_of_its_own_end_too(tmp_path: Path, child_environment: dict):
    (tmp_path / "program.py").write_text(CHILD)
    process = start(child_environment, "program.py", cwd=tmp_path)
    wait_for(tmp_path / "child", process)
    process.send_signal(signal.SIGINT)
    assert after(process) == (130, SAID)
    ended(int((tmp_path / "child").read_text()))


def test_a_deployment_ends_with_its_connections(tmp_path: Path, child_environment: dict):
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\necho $$ >pid.part && mv pid.part pid\nexec sleep 60\n")
    ssh.chmod(0o755)
    package = tmp_path / "x.run"
    info = b"bn3d_version=0.1.0\nbn3d_arch=x86_64\n"
    sums = f"{hashlib.sha256(info).hexdigest()}  version.info\n"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("package/version.info", info)
        archive.writestr("package/SHA256SUMS", sums)
    command = ["-m", "bn3d", "opp", "deploy", "host", "--package", package, "--ssh", ssh]
    process = start(child_environment, *command, cwd=tmp_path)
    wait_for(tmp_path / "pid", process)
    process.send_signal(signal.SIGINT)
    assert after(process) == (130, SAID)
    ended(int((tmp_path / "pid").read_text()))


def test_a_deployment_that_still_builds_leaves_nothing(tmp_path: Path, child_environment: dict):
    cann = Path(__file__).parents[1] / "opp" / "fake_cann"
    variables = {"TMPDIR": str(tmp_path), "ASCEND_HOME_PATH": str(cann)}
    command = ["-m", "bn3d", "opp", "deploy", "host", "--ssh", "false"]
    process = start({**child_environment, **variables}, *command, cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*/CMakeCache.txt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert after(process) == (130, SAID)
    assert not list(tmp_path.glob("bn3d-opp-*"))


def test_what_must_be_put_in_order_is(tmp_path: Path, child_environment: dict):
    """And a program that it waits for gets the signal of a terminal."""
    program = (
        "import pathlib, subprocess, sys\n"
        "from bn3d import interrupts\n"
        "interrupts.guard()\n"
        "with interrupts.raised():\n"
        "    try:\n"
        "        pathlib.Path('runs').touch()\n"
        "        subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'],\n"
        "                       stderr=subprocess.DEVNULL)\n"
        "    finally:\n"
        "        pathlib.Path('in order').touch()\n"
    )
    process = start(child_environment, "-c", program, cwd=tmp_path)
    wait_for(tmp_path / "runs", process)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert after(process) == (130, SAID)
    assert (tmp_path / "in order").exists()


def test_a_handler_that_somebody_set_counts(tmp_path: Path, child_environment: dict):
    program = (
        "import pathlib, signal, sys, time\n"
        "from bn3d import interrupts\n"
        "interrupts.guard()\n"
        "stop = []\n"
        "signal.signal(signal.SIGINT, lambda number, frame: stop.append(number))\n"
        "pathlib.Path('runs').touch()\n"
        "while not stop: time.sleep(0.01)\n"
        "sys.exit(7)\n"
    )
    process = start(child_environment, "-c", program, cwd=tmp_path)
    wait_for(tmp_path / "runs", process)
    process.send_signal(signal.SIGINT)
    code, said = after(process)
    assert code == 7 and said.startswith("bn3d: interrupted, ending in order")
