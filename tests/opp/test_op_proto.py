"""The prototypes through the engine's eyes: loaded, verified and inferred."""

from __future__ import annotations

import itertools
import json
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bn3d.operators import OPERATORS, Operator
from bn3d.opp import build

from .conftest import FAKE_CANN, REPOSITORY, compile_graph, environment, extract_library

PROTO_SOURCES = sorted((REPOSITORY / "op_proto").glob("*.cc"))
BY_TYPE = {operator.type: operator for operator in OPERATORS}


HOME = os.environ.get("ASCEND_HOME_PATH")
LOOK_ALIKE = pytest.param(FAKE_CANN / "include", id="look-alike")
CANN = pytest.param(
    Path(HOME or "") / "include",
    id="CANN",
    marks=pytest.mark.skipif(not HOME, reason="ASCEND_HOME_PATH names no CANN"),
)


class Engine:
    def __init__(self, driver: Path, library: Path, *emulator: str):
        self._command = [*emulator, str(driver), str(library)]

    def ask(self, request: str) -> dict:
        done = subprocess.run(
            self._command, input=request + "\n", capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    def infer(self, operator: Operator, **given) -> dict:
        """Infer, unless given otherwise, with ND volumes (2, 3, 4, 5, 6) and vectors (3,)."""
        words = [operator.type]
        for tensor in operator.inputs:
            volume = tensor.kind == "volume"
            format, dtype, shape, *ranges = given.get(
                tensor.name,
                ("ND", "float16", (2, 3, 4, 5, 6)) if volume else ("ND", "float32", (3,)),
            )
            fields = [tensor.name, format, dtype, ",".join(map(str, shape))]
            fields += [",".join(f"{low}~{high}" for low, high in r) for r in ranges]
            words.append("|".join(fields))
        return self.ask(" ".join(words))


CROSS_COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
AARCH64 = pytest.param(
    "aarch64",
    marks=pytest.mark.skipif(
        platform.machine() == "aarch64"
        or not (shutil.which(CROSS_COMPILER) and shutil.which(EMULATOR)),
        reason="needs g++-aarch64-linux-gnu and qemu-user",
    ),
)


@pytest.fixture(scope="module", params=["this machine", AARCH64])
def engine(request: pytest.FixtureRequest, cann: Path, tmp_path_factory) -> Engine:
    """With the library that the package has, of this machine or of aarch64."""
    if request.param == "this machine":
        return Engine(cann / "lib64" / "driver", request.getfixturevalue("library"))
    directory = tmp_path_factory.mktemp("aarch64")
    driver = compile_graph(cann / "include", directory, compiler=CROSS_COMPILER)
    run_file = build.build(directory, "aarch64", environment(cann))
    library = extract_library(run_file, directory)
    return Engine(driver, library, EMULATOR, "-L", "/usr/aarch64-linux-gnu")


@pytest.mark.parametrize("include", [LOOK_ALIKE, CANN])
@pytest.mark.parametrize(("standard", "abi"), [(11, 0), (14, 1), (17, 1)])
def test_compiles_without_a_warning(include: Path, standard: int, abi: int):
    command = ["g++", f"-std=c++{standard}", f"-D_GLIBCXX_USE_CXX11_ABI={abi}", f"-I{include}"]
    warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror", "-fsyntax-only"]
    done = subprocess.run(
        [*command, *warnings, *map(str, PROTO_SOURCES)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("include", [CANN])
@pytest.mark.parametrize("abi", [0, 1])
def test_infers_when_compiled_with_the_headers_of_cann(include: Path, abi: int, tmp_path: Path):
    option = f"-D_GLIBCXX_USE_CXX11_ABI={abi}"
    driver = compile_graph(include, tmp_path, option)
    library = tmp_path / "libproto.so"
    command = ["g++", "-std=c++11", option, f"-I{include}", "-shared", "-fPIC", "-o", str(library)]
    subprocess.run([*command, *map(str, PROTO_SOURCES)], check=True)
    answer = Engine(driver, library).infer(BY_TYPE["Bn3dReduce"])
    assert answer["verified"] and answer["outputs"]["sum"]["shape"] == [3]


def inspect(*command: object) -> str:
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=True
    ).stdout


def test_names_libgraph_as_a_dependency_and_nothing_of_our_own(library: Path):
    dynamic = inspect("readelf", "-d", library)
    assert "[libgraph.so]" in dynamic
    assert "RUNPATH" not in dynamic and "RPATH" not in dynamic


def test_exports_nothing(library: Path):
    assert inspect("nm", "-D", "--defined-only", library) == ""


def test_loads_on_systems_as_old_as_ubuntu_18_04(library: Path):
    """Which has glibc 2.27, and the libstdc++ of GCC 7 or 8."""
    newest = {"GLIBC": (2, 27), "GLIBCXX": (3, 4, 24), "CXXABI": (1, 3, 11), "GCC": (7,)}
    versions = inspect("readelf", "-VW", library)
    needed = set(re.findall(r"\b(GLIBC|GLIBCXX|CXXABI|GCC)_([\d.]+)", versions))
    assert needed
    for name, version in needed:
        assert tuple(map(int, version.split("."))) <= newest[name], f"{name}_{version}"


def test_passes_no_string_to_the_engine(library: Path):
    """So the library fits a CANN of either std::string ABI."""
    symbols = inspect("nm", "-DuC", library).splitlines()
    of_engine = [line for line in symbols if "ge::" in line]
    assert of_engine
    assert not [line for line in of_engine if "basic_string" in line or "cxx11" in line]


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.type)
def test_declares_what_the_table_says(engine: Engine, operator: Operator):
    declared = engine.ask(operator.type)
    for tensors, names in ((operator.inputs, "inputs"), (operator.outputs, "outputs")):
        dtypes = {
            "volume": ["DT_FLOAT16", "DT_FLOAT", "DT_BF16"],
            "channel": ["DT_FLOAT"],
        }
        expected = [[tensor.name, dtypes[tensor.kind]] for tensor in tensors]
        assert [[name, re.findall(r"DT_\w+", text)] for name, text in declared[names]] == expected


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
@pytest.mark.parametrize("format", ["ND", "NCDHW", "NDC1HWC0"])
@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.type)
def test_infers_shapes_dtypes_and_formats(
    engine: Engine, operator: Operator, format: str, dtype: str
):
    volume, vector = ((2, 3, 4, 5, 6), (3,))
    if format == "NDC1HWC0":
        volume, vector = ((2, 4, 1, 5, 6, 16), (1, 1, 1, 1, 1, 16))
    given = {
        tensor.name: (format, dtype, volume)
        if tensor.kind == "volume"
        else (format, "float32", vector)
        for tensor in operator.inputs
    }
    answer = engine.infer(operator, **given)
    assert answer["verified"] and answer["inferred"] and not answer["errors"]
    assert list(answer["outputs"]) == [tensor.name for tensor in operator.outputs]
    for tensor in operator.outputs:
        is_volume = tensor.kind == "volume"
        assert answer["outputs"][tensor.name] == {
            "shape": list(volume if is_volume else vector),
            "origin_shape": list(volume if is_volume else vector),
            "format": format,
            "origin_format": format,
            "dtype": dtype if is_volume else "float32",
            "ranges": [],
        }


ND, NCDHW, BLOCKED = "ND", "NCDHW", "NDC1HWC0"
VOLUME, VECTOR = (2, 3, 4, 5, 6), (3,)


@pytest.mark.parametrize(
    ("operator", "given", "output", "expected"),
    [
        ("Bn3dReduce", {"x": (ND, "float16", (-1, 3, -1, 5, 6))}, "sum", [3]),
        (
            "Bn3dReduce",
            {"x": (ND, "float16", (2, -1, 4, 5, 6)), "shift": (ND, "float32", (-1,))},
            "sum",
            [-1],
        ),
        ("Bn3dReduce", {"x": (ND, "float16", (2, -1, 4, 5, 6))}, "square_sum", [3]),
        ("Bn3dReduce", {"shift": (ND, "float32", (-2,))}, "sum", [3]),
        (
            "Bn3dReduce",
            {"x": (ND, "float16", (-2,)), "shift": (ND, "float32", (-2,))},
            "sum",
            [-1],
        ),
        ("Bn3dReduce", {"x": (ND, "float16", (-2,))}, "sum", [3]),
        (
            "Bn3dReduce",
            {"x": (BLOCKED, "float16", (-2,)), "shift": (BLOCKED, "float32", (-2,))},
            "sum",
            [1, 1, -1, 1, 1, 16],
        ),
        (
            "Bn3dReduce",
            {
                "x": (BLOCKED, "float16", (2, 4, 7, 5, 6, 16)),
                "shift": (BLOCKED, "float32", (-1, -1, -1, -1, -1, -1)),
            },
            "sum",
            [1, 1, 7, 1, 1, 16],
        ),
        ("Bn3dApply", {"x": (ND, "float16", (-2,))}, "y", [-2]),
        ("Bn3dApply", {"x": (ND, "float16", (-1, -1, 4, 5, 6))}, "y", [-1, 3, 4, 5, 6]),
        ("Bn3dApply", {"mean": (ND, "float32", (-1,))}, "y", [2, 3, 4, 5, 6]),
        ("Bn3dGradApply", {"dy": (ND, "float16", (-2,))}, "dx", [2, 3, 4, 5, 6]),
        (
            "Bn3dGradApply",
            {"dy": (ND, "float16", (2, 3, -1, 5, -1)), "x": (ND, "float16", (-1, 3, 4, 5, -1))},
            "dx",
            [2, 3, 4, 5, -1],
        ),
        ("Bn3dApply", {"x": (ND, "float16", (0, 3, 4, 5, 6))}, "y", [0, 3, 4, 5, 6]),
    ],
)
def test_knows_what_any_input_knows(engine: Engine, operator, given, output, expected):
    answer = engine.infer(BY_TYPE[operator], **given)
    assert answer["verified"] and answer["inferred"], answer["errors"]
    assert answer["outputs"][output]["shape"] == expected


@pytest.mark.parametrize("name", ["dy", "x"])
def test_nd_is_raw_ncdhw(engine: Engine, name: str):
    answer = engine.infer(BY_TYPE["Bn3dGradApply"], **{name: (NCDHW, "float16", VOLUME)})
    assert answer["verified"], answer["errors"]
    assert answer["outputs"]["dx"]["format"] == NCDHW


def test_carries_the_range_of_unknown_dimensions(engine: Engine):
    ranges = ((1, 8), (3, 64), (4, 4), (1, 99), (6, 6))
    x = (ND, "float16", (-1, -1, 4, -1, 6), ranges)
    unknown = (ND, "float32", (-1,))
    answer = engine.infer(BY_TYPE["Bn3dReduce"], x=x, shift=unknown)
    assert answer["outputs"]["sum"]["ranges"] == [[3, 64]]
    answer = engine.infer(BY_TYPE["Bn3dApply"], x=x)
    assert answer["outputs"]["y"]["ranges"] == [[1, 8], [3, 3], [4, 4], [1, 99], [6, 6]]


@pytest.mark.parametrize(
    ("operator", "given", "message"),
    [
        ("Bn3dReduce", {"x": (ND, "int32", VOLUME)}, "x must be float16.*got dtype int32"),
        ("Bn3dReduce", {"x": (ND, "float64", VOLUME)}, "got dtype float64"),
        ("Bn3dReduce", {"shift": (ND, "float16", VECTOR)}, "shift must be float32.*float16"),
        ("Bn3dApply", {"offset": (ND, "float16", VECTOR)}, "offset must be float32"),
        ("Bn3dReduce", {"x": ("NDHWC", "float16", VOLUME)}, "format ND, NCDHW or .*got NDHWC"),
        ("Bn3dReduce", {"x": ("NCHW", "float16", (2, 3, 4, 5))}, "got NCHW"),
        ("Bn3dReduce", {"x": (ND, "float16", (2, 3, 4, 5))}, r"5 dimensions.*\(2, 3, 4, 5\)"),
        ("Bn3dReduce", {"x": (BLOCKED, "float16", VOLUME)}, "6 dimensions"),
        ("Bn3dReduce", {"x": (BLOCKED, "float16", (2, 4, 1, 5, 6, 8))}, "C0 = 16"),
        ("Bn3dReduce", {"x": (ND, "float16", (2, 3, -3, 5, 6))}, "x has an invalid shape"),
        ("Bn3dReduce", {"shift": (ND, "float32", (-5,))}, "shift has an invalid shape"),
        ("Bn3dReduce", {"shift": (ND, "float32", (1, 3))}, "shift must have 1 dimension"),
        ("Bn3dReduce", {"shift": (ND, "float32", (4,))}, "x and shift.*same channels"),
        ("Bn3dReduce", {"shift": (ND, "float32", (1,))}, "x and shift.*same channels"),
        ("Bn3dApply", {"offset": (ND, "float32", (4,))}, r"mean and offset.*\(3\) and \(4\)"),
        (
            "Bn3dReduce",
            {"x": (BLOCKED, "float16", (2, 4, 1, 5, 6, 16))},
            r"shift must have 6 dimensions \(1, 1, C1, 1, 1, C0\) because x",
        ),
        (
            "Bn3dReduce",
            {
                "x": (BLOCKED, "float16", (2, 4, 1, 5, 6, 16)),
                "shift": (BLOCKED, "float32", (2, 1, 1, 1, 1, 16)),
            },
            "shift must have shape",
        ),
        (
            "Bn3dReduce",
            {
                "x": (BLOCKED, "float16", (2, 4, 2, 5, 6, 16)),
                "shift": (BLOCKED, "float32", (1, 1, 1, 1, 1, 16)),
            },
            "same channels",
        ),
        ("Bn3dGradReduce", {"x": (ND, "float32", VOLUME)}, "dy and x.*same dtype"),
        (
            "Bn3dGradReduce",
            {"x": (BLOCKED, "float16", (2, 4, 1, 5, 6, 16))},
            "dy and x.*same format, got ND and NDC1HWC0",
        ),
        ("Bn3dGradReduce", {"x": (ND, "float16", (2, 3, 4, 5, 7))}, "dy and x.*same shape"),
        ("Bn3dGradApply", {"c": (ND, "float32", (5,))}, "mean and c.*same shape"),
    ],
)
def test_refuses_with_a_reason(engine: Engine, operator: str, given: dict, message: str):
    answer = engine.infer(BY_TYPE[operator], **given)
    assert not answer["verified"]
    assert not answer["inferred"]
    (error,) = answer["errors"]
    assert error.startswith(f"EU3003 {operator}: ")
    assert re.search(message, error)


@pytest.mark.parametrize("unknown", list(itertools.product([False, True], repeat=3))[1:])
def test_unknown_ranks_agree_with_everything(engine: Engine, unknown: tuple[bool, ...]):
    names = ("dy", "x", "mean")
    given = {
        name: (ND, "float32" if name == "mean" else "float16", (-2,))
        for name, is_unknown in zip(names, unknown, strict=True)
        if is_unknown
    }
    assert engine.infer(BY_TYPE["Bn3dGradReduce"], **given)["verified"]
