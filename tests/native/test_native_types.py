"""MindSpore's numbers of dtypes, which the library has too, against the headers of its wheel."""

import shutil
import subprocess
from pathlib import Path

import mindspore
import pytest

OUTPUTS = Path(__file__).parents[2] / "op_impl/cpu/outputs.h"
HEADER = "mindapi/base/type_id.h"


def test_type_ids_are_mindspores():
    core = Path(mindspore.__file__).parent / "include/mindspore/core/include"
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None or not (core / HEADER).is_file():
        pytest.skip("no C++ compiler, or no headers in this MindSpore")
    program = f'#include "{OUTPUTS}"\n#include "{HEADER}"\n' + "".join(
        f"static_assert(bn3d::{name} == static_cast<int>(mindspore::{name}));\n"
        for name in ("kNumberTypeInt64", "kNumberTypeFloat64")
    )
    options = ["-std=c++17", "-fsyntax-only", "-DBN3D_ISA=portable", f"-I{core}", "-x", "c++", "-"]
    ran = subprocess.run(
        [compiler, *options], input=program, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
