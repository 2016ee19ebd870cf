"""The library's pool of threads, and how many it takes to be worth starting."""

import importlib
import os
import shutil
import subprocess
import threading
from pathlib import Path

import mindspore as ms
import mindspore._c_expression as private
import numpy as np
import pytest
from mindspore import Tensor, nn

import bn3d
from bn3d.backends import library, threads

ROOT = Path(__file__).parents[2]


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


@pytest.fixture
def set_mindspores_threads():
    before = ms.get_context("runtime_num_threads")
    yield lambda threads: ms.set_context(runtime_num_threads=threads)
    ms.set_context(runtime_num_threads=before)
    threads.follow_now()


@pytest.mark.skipif(library.load().threads < 2, reason="there is one processor")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", [ms.PYNATIVE_MODE, ms.GRAPH_MODE])
def test_threads_set_after_a_layer_was_built_count(set_mindspores_threads, mode, training):
    """In PyNative mode at the next call, of a graph as it is compiled."""
    loaded = library.load()
    x = Tensor(np.random.default_rng(5).standard_normal((2, 3, 4, 5, 6)), ms.float32)
    ms.set_context(mode=mode)
    try:
        for wanted in (2, 1, 2):
            net = nn.SequentialCell(bn3d.BatchNorm3d(3), nn.ReLU()).set_train(training)
            set_mindspores_threads(wanted)
            net(x)
            assert loaded.threads == wanted
        if mode == ms.PYNATIVE_MODE:
            set_mindspores_threads(1)
            net(x)
            assert loaded.threads == 1
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)


@pytest.mark.parametrize("name", ["MSContext", "ms_ctx_param"])
def test_threads_are_asked_for_in_public_where_mindspores_inside_differs(
    monkeypatch, set_mindspores_threads, name
):
    with monkeypatch.context() as patch:
        patch.delattr(private, name)
        importlib.reload(threads)
        set_mindspores_threads(1)
        threads.follow_now()
    importlib.reload(threads)
    assert library.load().threads == 1
