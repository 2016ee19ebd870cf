"""What the kernels' object files offer to the linker: of a function that several of them define
it keeps one copy, which may be of an instruction set that the processor does not have.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "op_impl/cpu/kernels.cc"
OPTIONS = {"baseline": []}
if os.uname().machine == "x86_64":
    OPTIONS["avx2"] = ["-mavx2", "-mf16c"]
    OPTIONS["avx512"] = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mf16c"]


@pytest.mark.parametrize("isa", OPTIONS)
def test_kernels_define_nothing_outside_of_their_namespace(tmp_path, isa):
    """Without optimization, so that no call is inlined that need not be."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None or shutil.which("nm") is None:
        pytest.skip("no C++ compiler or no nm")
    made = tmp_path / "kernels.o"
    options = ["-std=c++17", "-w", "-O0", "-fno-exceptions", f"-DBN3D_ISA={isa}", *OPTIONS[isa]]
    subprocess.run([compiler, *options, "-c", SOURCE, "-o", made], check=True)
    names = subprocess.run(
        ["nm", "--demangle", "--defined-only", made], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    # Upper-case kinds, and u, v and w, are seen by other files.
    seen = [line for line in names if re.match(r"[0-9a-f]* [A-Zuvw] ", line)]
    assert any(f"bn3d::{isa}::kKernels" in line for line in seen)
    assert [line for line in seen if f"bn3d::{isa}::" not in line] == []
