"""docs/tutorials/several_processes.md: its script on one process and on two."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from msrun import msrun

from support.tutorials import TUTORIALS, blocks, write_files


def said(text: str) -> list[str]:
    return re.findall(r"^rank .*$", text, re.MULTILINE)


def as_said(printed: list[str], expected: str) -> bool:
    """The same lines, with numbers that are equal but for how convolutions round."""
    pairs = list(zip(printed, expected.splitlines(), strict=True))
    return all(
        ours.rsplit(" ", 1)[0] == theirs.rsplit(" ", 1)[0]
        and float(ours.split()[-1]) == pytest.approx(float(theirs.split()[-1]), abs=1e-3)
        for ours, theirs in pairs
    )


def test_two_processes_train_as_one(tmp_path, child_environment):
    found = blocks(TUTORIALS / "several_processes.md")
    one, two, grep = (block for block in found if block.command)
    write_files(found, tmp_path)
    done = subprocess.run(
        [sys.executable, *one.command.split()[1:]],
        cwd=tmp_path,
        env={**child_environment, "GLOG_v": "3"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    alone = said(done.stdout)
    assert as_said(alone, one.output), alone

    for option in ("--worker_num=2", "--local_worker_num=2", "--join=True", "train.py"):
        assert option in two.command
    job = msrun(tmp_path / "train.py", 2, tmp_path / "job")
    assert job.returncode == 0, str(job)
    both = [line for rank in (0, 1) for line in said(job.logs[f"worker_{rank}"])]
    assert as_said(both, grep.output), both
