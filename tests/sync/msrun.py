"""Run a script of this folder in several processes with msrun, bounded in time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

import bn3d

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
# Seconds without a sign of life after which MindSpore gives a process up.
DEAD_AFTER = {"MS_NODE_TIMEOUT": "10", "MS_RECEIVE_MSG_TIMEOUT": "15"}


@dataclass(frozen=True)
class Job:
    """A job that has ended: exit code of msrun, seconds, and what every process printed."""

    returncode: int
    seconds: float
    logs: dict[str, str] = field(repr=False)

    def __str__(self) -> str:
        texts = [f"--- {name}\n{_tail(text)}" for name, text in sorted(self.logs.items())]
        return "\n".join([f"msrun: {self.returncode} after {self.seconds:.0f} s", *texts])


def msrun(
    script: Path,
    workers: int,
    folder: Path,
    *arguments: str,
    timeout: float = 300,
    cluster_timeout: int = 60,
    started: int | None = None,
) -> Job:
    """Run `script` in `workers` processes, of which `started` (default: all) are started.

    Logs go to `folder`/log. After `timeout` seconds, and in any case at the end, no process of
    the job is left.
    """
    logs = folder / "log"
    environment = os.environ | DEAD_AFTER | {"OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    # Not all of sys.path: MindSpore's rewriting tools put folders of their own into it.
    paths = [str(Path(path).parent) for path in bn3d.__path__]
    environment["PYTHONPATH"] = os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "mindspore.parallel.cluster.run"]
    command += [f"--worker_num={workers}", f"--local_worker_num={started or workers}"]
    command += ["--node_rank=0", f"--master_port={_free_port()}", f"--log_dir={logs}"]
    command += [f"--cluster_time_out={cluster_timeout}", "--join=True", str(script), *arguments]

    folder.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    with (folder / "msrun.log").open("w") as output:
        launcher = psutil.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        # msrun gives each worker a session of its own, so they are remembered one by one.
        family: set[psutil.Process] = set()
        try:
            while launcher.poll() is None and time.monotonic() - begin < timeout:
                family.update(_children(launcher))
                time.sleep(0.1)
        finally:
            _end(launcher, family)
    left = [process.cmdline() for process in family if _is_alive(process)]
    assert not left, left
    texts = {path.stem: path.read_text(errors="replace") for path in logs.glob("*.log")}
    texts["msrun"] = (folder / "msrun.log").read_text(errors="replace")
    return Job(launcher.returncode, time.monotonic() - begin, texts)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _end(launcher: psutil.Popen, family: set[psutil.Process]) -> None:
    family.update(_children(launcher))
    for process in (launcher, *family):
        if process.is_running():
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(family, timeout=10)
    launcher.wait()


def _is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _tail(text: str, lines: int = 25) -> str:
    said = [line for line in text.splitlines() if "[WARNING]" not in line]
    return "\n".join(said[-lines:])
