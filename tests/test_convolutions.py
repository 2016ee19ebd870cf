"""What is said of MindSpore's convolutions, on made-up processors."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path

import pytest
from mindspore import nn
from typer.testing import CliRunner

import bn3d
from bn3d import convolutions
from bn3d.commands import demo
from bn3d.commands.cli import app
from bn3d.networks import swapping

AVX2 = "processor\t: 0\nflags\t\t: fpu sse4_1 avx avx2 fma\n"
AVX512 = "processor\t: 0\nflags\t\t: fpu sse4_1 avx avx2 fma avx512f avx512bw avx512vl\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd atomics\n"
SET = {"ONEDNN_MAX_CPU_ISA": "AVX2"}


@pytest.mark.parametrize(
    "cpuinfo, environment, slow, said",
    [
        (AVX512, {}, True, "ONEDNN_MAX_CPU_ISA=AVX2"),
        (AVX512, {"ONEDNN_MAX_CPU_ISA": ""}, True, "slow; set"),
        (AVX512, SET, False, "is set"),
        (AVX512, {"ONEDNN_MAX_CPU_ISA": "avx2_vnni"}, False, "is set"),
        (AVX512, {"DNNL_MAX_CPU_ISA": "SSE41"}, False, "DNNL_MAX_CPU_ISA=SSE41 is set"),
        (AVX512, {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, True, "AVX512_CORE is set now"),
        (AVX512, {"ONEDNN_MAX_CPU_ISA": "ALL", "DNNL_MAX_CPU_ISA": "AVX2"}, True, "ALL is set now"),
        (AVX512, {"ONEDNN_MAX_CPU_ISA": "AVX10_1_512"}, True, "slow"),
        (AVX2, {}, False, "nothing to set"),
        (AVX2, {"ONEDNN_MAX_CPU_ISA": "ALL"}, False, "nothing to set"),
    ],
)
def test_what_is_to_be_set(cpuinfo, environment, slow, said):
    assert convolutions.are_slow(environment, cpuinfo) is slow
    assert said in convolutions.advice(environment, cpuinfo)


@pytest.mark.parametrize("cpuinfo", [ARM, ""])
def test_nothing_is_said_of_what_is_not_known(cpuinfo):
    assert convolutions.advice({}, cpuinfo) is None
    assert not convolutions.are_slow({}, cpuinfo)


def test_a_program_sets_it_and_says_so():
    environment = {"PATH": "/bin"}
    assert "Set ONEDNN_MAX_CPU_ISA=AVX2" in convolutions.use_fast(environment, AVX512)
    assert environment == {"PATH": "/bin", **SET}
    assert convolutions.use_fast(environment, AVX512) is None


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_what_the_user_has_set_stays(name):
    environment = {name: "ALL"}
    assert f"{name}=ALL is left" in convolutions.use_fast(environment, AVX512)
    assert environment == {name: "ALL"}


@pytest.mark.parametrize("cpuinfo", [AVX2, ARM])
def test_other_processors_need_nothing(cpuinfo):
    environment = {}
    assert convolutions.use_fast(environment, cpuinfo) is None
    assert not environment


@pytest.mark.parametrize("cpuinfo, row", [(AVX512, "slow; set"), (AVX2, "nothing to set")])
def test_info_has_a_row_of_it(cpuinfo, row, monkeypatch):
    monkeypatch.setattr(convolutions, "_has_avx512", lambda _: cpuinfo is AVX512)
    for name in convolutions.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert row in dict(bn3d.info().rows())["3-D convolutions"]


def swap_and_catch(*cells) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bn3d.swap(nn.SequentialCell(*cells))
    return [str(warning.message) for warning in caught]


def test_swap_says_it_once_where_there_are_convolutions(monkeypatch):
    monkeypatch.setattr(convolutions, "are_slow", lambda: True)
    monkeypatch.setattr(swapping, "_said_slow", False)
    assert not swap_and_catch(nn.BatchNorm3d(2))
    (said,) = swap_and_catch(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2))
    assert "ONEDNN_MAX_CPU_ISA=AVX2" in said
    assert not swap_and_catch(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2))


def test_swap_says_nothing_where_they_are_fast(monkeypatch):
    monkeypatch.setattr(convolutions, "are_slow", lambda: False)
    monkeypatch.setattr(swapping, "_said_slow", False)
    assert not swap_and_catch(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2))


SAID = "Set ONEDNN_MAX_CPU_ISA=AVX2 for this run"


@pytest.mark.parametrize(
    "arguments, code",
    [(["bench", "--no-layers", "--no-kernels", "--output"], 0), (["demo", "--output"], 2)],
    ids=["bench", "demo"],
)
def test_the_commands_say_that_they_set_it(arguments, code, tmp_path, monkeypatch):
    monkeypatch.setattr(convolutions, "use_fast", lambda: SAID)
    # The demo ends before it trains.
    monkeypatch.setitem(sys.modules, "nilearn", None)
    for name in ("report", "training", "volume"):
        monkeypatch.delitem(sys.modules, f"bn3d.commands.demo.{name}", raising=False)
        monkeypatch.delattr(demo, name, raising=False)
    result = CliRunner().invoke(app, [*arguments, str(tmp_path)])
    assert result.exit_code == code, result.output
    assert SAID in result.output.splitlines()


REPOSITORY = Path(__file__).parents[1]
PROGRAMS = [*REPOSITORY.glob("benchmarks/bench_*.py"), *REPOSITORY.glob("examples/*.py")]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_every_program_sets_it_and_says_so_or_is_a_command(path):
    text = path.read_text()
    commands = (
        "from bn3d.commands.demo import main",
        "from bn3d.commands.bench.command import bench",
    )
    says = re.search(r"said :?= convolutions\.use_fast\(\)", text) and re.search(
        r"(?:print|echo)\(said\)", text
    )
    assert says or any(each in text for each in commands)
