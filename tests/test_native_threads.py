"""The library's pool of threads, and how many it takes to be worth starting."""

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from bn3d import library

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """`tests/native/threads.cc`, with the pool's own sources in it."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    made = tmp_path_factory.mktemp("native") / "threads"
    sources = [f"tests/native/{name}.cc" for name in ("threads", "thread_creation")]
    sources += [f"op_impl/cpu/{name}.cc" for name in ("processors", "thread_pool")]
    options = ["-std=c++17", "-O2", "-pthread", "-rdynamic"]
    subprocess.run([compiler, *options, *sources, "-o", str(made), "-ldl"], cwd=ROOT, check=True)
    return made


def test_calls_share_the_threads_that_there_are(program):
    """Calls at once, threads that the system does not start, callers that are bound."""
    ran = subprocess.run([program, "pool"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    # Said once, whatever the number of calls.
    assert ran.stderr.splitlines() == [
        "bn3d: the system starts no more threads (Resource temporarily unavailable): 1 compute"
    ]


NO_LIMIT = 0


@pytest.mark.parametrize(
    ("groups", "limits", "wanted"),
    [
        ("0::/", {"cpu.max": "250000 100000"}, 3),
        ("0::/", {"cpu.max": "max 100000"}, NO_LIMIT),
        ("0::/", {"cpu.max": "10000 100000"}, 1),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 100000"}, 2),
        ("0::/a/b", {"a/b/cpu.max": "100000 100000", "a/cpu.max": "300000 100000"}, 1),
        # The path is the host's, of which the container sees its own group alone.
        ("0::/system.slice/docker-1.scope", {"cpu.max": "200000 100000"}, 2),
        (
            "5:memory:/a\n4:cpu,cpuacct:/a",
            {"cpu/a/cpu.cfs_quota_us": "400000", "cpu/a/cpu.cfs_period_us": "100000"},
            4,
        ),
        (
            "4:cpu:/host/a\n0::/",
            {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"},
            1,
        ),
        (
            "4:cpu:/",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            NO_LIMIT,
        ),
        ("3:cpuset:/\n2:cpuacct:/", {"cpu/cpu.cfs_quota_us": "1"}, NO_LIMIT),
        ("0::/", {"cpu.max": "not a number"}, NO_LIMIT),
        ("", {}, NO_LIMIT),
        (None, {}, NO_LIMIT),
    ],
)
def test_the_quota_of_the_control_group(program, tmp_path, groups, limits, wanted):
    if groups is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups + "\n")
    for name, text in limits.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    ran = subprocess.run([program, "quota", tmp_path], capture_output=True, text=True, check=True)
    assert int(ran.stdout) == wanted


def test_a_bound_caller_has_the_threads_of_the_process():
    loaded = library.load()
    wanted = loaded.threads
    if wanted < 2:
        pytest.skip("there is one processor")
    found = []

    def bound():
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # of this thread alone
        found.append(loaded.threads)

    thread = threading.Thread(target=bound)
    thread.start()
    thread.join()
    assert found == [wanted]


def test_a_bound_process_has_fewer_threads():
    loaded = library.load()
    processors = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(processors)})
        assert loaded.threads == 1
    finally:
        os.sched_setaffinity(0, processors)
