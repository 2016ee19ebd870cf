"""The C++ driver of `tests/native`, on the library that is installed.

`scripts/sanitize.sh`, `scripts/fuzz.sh` and `scripts/test_aarch64.sh` do more with it.
"""

import itertools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bn3d.backends import library

SOURCES = Path(__file__).parent


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    program = tmp_path_factory.mktemp("native") / "driver"
    others = ("fuzz.cc", "threads.cc", "thread_creation.cc")
    sources = [str(path) for path in SOURCES.glob("*.cc") if path.name not in others]
    options = ["-std=c++17", "-O2", "-ffp-contract=off", "-pthread", "-rdynamic"]
    subprocess.run([compiler, *options, *sources, "-o", str(program), "-ldl"], check=True)
    return program


def test_every_entry_point_against_plain_loops_streaming_or_not_on_every_instruction_set(driver):
    digests = {}
    all_sets = ("baseline", "avx2", "avx512")
    there = all_sets[: all_sets.index(library.load().instruction_set) + 1]
    for isa, streamed in itertools.product(there, ("", "0")):
        ran = subprocess.run(
            [str(driver), str(library.load().path)],
            env={**os.environ, "BN3D_ISA": isa, "BN3D_STREAMED_BYTES": streamed},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert ran.stdout.startswith(f"{isa}: ")
        digests[isa, streamed] = ran.stdout.split()[-1]
    assert len(set(digests.values())) == 1, digests
