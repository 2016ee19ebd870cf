"""README, in both languages: its code runs and prints what it says, its badges are true."""

from __future__ import annotations

import copy
import re
import runpy
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

import bn3d

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    tomllib = pytest.importorskip("pip._vendor.tomli")

ROOT = Path(__file__).parents[1]
READMES = [ROOT / "README.md", ROOT / "README_CN.md"]
BLOCK = re.compile(r"^```python\n(.*?)^```\n+((?: {4}\S[^\n]*\n)*)", re.MULTILINE | re.DOTALL)
EQUATION = "moving_mean = momentum * moving_mean"  # says what a layer computes, runs not


class ResNet3D(nn.Cell):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv3d(8, 8, 3), nn.BatchNorm3d(8)

    def construct(self, x):
        return self.bn(self.conv(x))


def pattern(shown: str) -> str:
    """What may be printed where this is shown: any instruction set, and anything for "..."."""
    return re.escape(shown.rstrip()).replace(re.escape("..."), ".*").replace("avx2", r"\w+")


def assert_printed(printed: str, shown: str) -> None:
    lines = [line[4:] for line in shown.splitlines()]
    for line, expected in zip(printed.splitlines(), lines, strict=True):
        assert re.fullmatch(pattern(expected), line)


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.name)
def test_its_code_runs_and_prints_what_it_says(path, capsys):
    ms.set_context(mode=ms.PYNATIVE_MODE)
    names = {"ResNet3D": ResNet3D, "copy": copy}
    blocks = BLOCK.findall(path.read_text(encoding="utf-8"))
    assert len(blocks) == 4
    assert sum(bool(shown) for _, shown in blocks) == 1
    for code, shown in blocks:
        if EQUATION in code:
            continue
        capsys.readouterr()
        exec(code, names)
        if shown:
            assert len(list(filter(None, code.splitlines()))) <= 10
            assert_printed(capsys.readouterr().out, shown)


def test_its_first_lines_print_the_same_on_another_processor(child_environment):
    """In a fresh Python; its vectors and those of MindSpore's convolutions are of SSE4.1."""
    other = {"BN3D_ISA": "baseline", "ONEDNN_MAX_CPU_ISA": "SSE41"}
    code, shown = next(b for b in BLOCK.findall(READMES[0].read_text(encoding="utf-8")) if b[1])
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**child_environment, **other},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "baseline" in ran.stdout
    assert_printed(ran.stdout, shown)


def test_a_wrong_line_is_found():
    assert not re.fullmatch(pattern("1 of 1 (native, avx2)"), "1 of 2 (native, avx2)")
    assert not re.fullmatch(pattern("ulp: y 1.12, ..."), "ulp: y 1.13, mean 1")
    assert re.fullmatch(pattern("ulp: y 1.12, ..."), "ulp: y 1.12, mean 1")


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.name)
def test_badges_are_true(path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    badges = dict(re.findall(r"img\.shields\.io/badge/(\w+)-(.*)-\w+\)", path.read_text("utf-8")))
    python, mindspore = project["requires-python"], project["dependencies"][0]
    assert badges["bn3d"] == bn3d.__version__
    assert badges["licence"].replace("--", "-") == project["license"]
    for said, required in ((badges["Python"], python), (badges["MindSpore"], mindspore)):
        first, last = said.split("_to_")
        major, minor = last.split(".")
        assert required.endswith(f">={first},<{major}.{int(minor) + 1}")


def error_of_y(layer: type, shape: tuple[int, ...]) -> float:
    x = np.random.default_rng(0).normal(1000, 1, shape).astype(np.float32)
    (checked,) = bn3d.cross_check(layer(shape[1]).set_train(), ms.Tensor(x)).layers
    return next(q.error for q in checked.quantities if q.name == "y")


@pytest.mark.parametrize(
    ("shape", "stock"), [((2, 16, 32, 64, 64), 3e-4), ((1, 2, 128, 128, 128), 0.9)]
)
def test_the_errors_in_its_table_are_what_cross_check_finds(shape, stock):
    assert error_of_y(nn.BatchNorm3d, shape) == pytest.approx(stock, rel=0.2)
    assert error_of_y(bn3d.BatchNorm3d, shape) < 2e-7


def test_the_picture_is_of_what_the_layers_compute():
    """Stock loses the brain, bn3d does not."""
    pytest.importorskip("nilearn")
    script = runpy.run_path(str(ROOT / "scripts" / "picture.py"))
    results = script["normalised"](script["volume"]())
    errors = {name: np.abs(y - results["float64"]).max() for name, y in results.items()}
    assert errors["nn.BatchNorm3d"] > 1
    assert errors["bn3d.BatchNorm3d"] < 1e-6
