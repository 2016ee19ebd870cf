"""The benchmark's harness in its smallest configuration; never its times."""

from __future__ import annotations

import json
import os
from concurrent.futures import BrokenExecutor

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from bn3d.commands.bench import command, run, session, standard_error
from bn3d.commands.bench.cases import Case, all_cases
from bn3d.commands.bench.report import ratios
from bn3d.commands.bench.timing import Effort, take_turns, together


def test_calls_take_turns_in_rotating_order():
    order = []
    timings = take_turns(
        {name: lambda name=name: order.append(name) for name in "ab"},
        Effort(blocks=2, block_seconds=0.0),
    )
    # One call each to estimate, then blocks of one warm-up and three timed calls.
    assert "".join(order) == "ab" + "aaaa" + "bbbb" + "bbbb" + "aaaa"
    assert all(timing.calls == 6 for timing in timings.values())


def test_calls_that_only_begin_their_work_are_timed_together():
    order = []
    timings = take_turns(
        {name: lambda name=name: order.append(name) for name in "ab"},
        Effort(blocks=2, block_seconds=0.0),
        together(lambda: order.append(".")),
    )
    block_a, block_b = ("".join((x, ".", 3 * x, ".")) for x in "ab")
    assert "".join(order) == ".a..b." + block_a + block_b + block_b + block_a
    assert all(timing.calls == 2 for timing in timings.values())


def test_quantiles_are_ordered():
    timing = take_turns({"nothing": lambda: None}, Effort(blocks=1))["nothing"]
    assert 0 < timing.p20 <= timing.p50 <= timing.p80


def row(shape, dtype="float32", **medians):
    return {
        "mode": "GRAPH_MODE",
        "step": "training",
        "shape": shape,
        "dtype": dtype,
        "milliseconds": {name: {"p50": value} for name, value in medians.items()},
    }


def test_ratios_are_geometric_means_of_large_and_of_small_float32_cases():
    large, small = (1, 32, 64, 64, 64), (8, 512, 1, 4, 4)
    found = ratios(
        [
            row(large, bn3d=1.0, stock=2.0),
            row(large, bn3d=1.0, stock=8.0),
            row(large, "float16", bn3d=1.0, stock=100.0),
            row(large, bn3d=1.0),  # stock refused
            row(small, bn3d=2.0, stock=3.0, torch=1.0),
        ]
    )
    means = {(r["small"], r["against"]): (r["geometric_mean"], r["least"]) for r in found}
    assert means == {
        (False, "stock"): (4.0, 2.0),
        (True, "stock"): (1.5, 1.5),
        (True, "torch"): (0.5, 0.5),
    }


@pytest.mark.parametrize(
    "step, kernels, stock, at_most",
    [
        ("training", 3.0, 9.0, 4.5),  # 1 around the kernels, and one copy of 1
        ("training", 0.8, 9.0, 2.25),  # the kernels beat the copy: nothing to gain
        ("forward_backward", 3.0, 7.0, 2.0),  # 1 around the kernels, and two and a half copies
    ],
)
def test_what_the_memory_allows_is_the_time_around_the_kernels_and_a_copy(
    step, kernels, stock, at_most
):
    measured = row((1, 32, 64, 64, 64), bn3d=4.0, kernels=kernels, stock=stock, copy=1.0)
    (found,) = ratios([{**measured, "step": step}])
    assert found["at_most"] == at_most


def test_cases_cover_the_half_precisions():
    assert {case.dtype for case in all_cases()} == {"float32", "float16", "bfloat16"}
    assert str(Case((1, 2, 3, 4, 5), "float16")) == "1x2x3x4x5 float16"


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    app = typer.Typer()
    app.command()(command.bench)
    arguments = ["--quick", "--profile", "--shape", "2,3,2,4,4", "--mode", "GRAPH_MODE"]
    done = CliRunner().invoke(app, [*arguments, "--output", str(folder)])
    assert done.exit_code == 0, done.output
    assert (folder / "bench.svg").read_text().startswith("<?xml")
    assert "Where a step of bn3d goes" in done.output
    return json.loads((folder / "bench.json").read_text())


def test_the_file_says_what_was_measured_where(result):
    assert result["cpu"] and result["threads"] >= 1 and result["date"] and result["command"]
    assert {"python", "bn3d", "mindspore", "numpy", "torch"} == set(result["versions"])
    assert set(result["waiting"]["GRAPH_MODE"]) == {"after_the_call_ms", "after_waiting_ms"}


def test_every_layer_is_measured(result):
    assert [row["step"] for row in result["layers"]] == list(command.STEPS)
    for measured in result["layers"]:
        assert measured["shape"] == [2, 3, 2, 4, 4]
        assert {"bn3d", "stock", "bare", "kernels", "copy"} <= set(measured["milliseconds"])
        assert set(measured["refused"]) <= {"torch"}  # where PyTorch is not installed
        for timing in measured["milliseconds"].values():
            assert timing["p20"] <= timing["p50"] <= timing["p80"]
            assert timing["calls"] > 0


def test_every_kernel_is_measured(result):
    (measured,) = result["kernels"]
    assert {
        "Bn3dReduce",
        "Bn3dApply",
        "Bn3dGradReduce",
        "Bn3dGradApply",
        "Bn3dForwardTraining",
        "Bn3dForwardInference",
        "Bn3dGradientTraining",
        "copy",
    } == set(measured["milliseconds"])


def test_a_dtype_that_stock_refuses_is_a_line_and_no_dump(monkeypatch, capfd):
    monkeypatch.setenv("GLOG_v", "3")  # MindSpore logs its errors
    case = Case((2, 3, 2, 4, 4), "bfloat16")
    rows = []
    with session.measuring_process("GRAPH_MODE", 1) as process:
        for step in ("training", "inference"):
            found = process(session.run_layers, case, step, 1, run.QUICK, False)
            rows.append({"mode": "GRAPH_MODE", **found})
    run._say_refused([row for row in rows if row["refused"].pop("torch", True)])
    assert capfd.readouterr() == ("stock refuses bfloat16\n", "")
    assert all("bn3d" in row["milliseconds"] for row in rows)


def test_other_reasons_say_where_and_each_once(capsys):
    refused = {"torch": "ModuleNotFoundError: No module named 'torch'"}
    rows = [{**row((1, 2, 3, 4, 5)), "refused": refused} for _ in range(3)]
    run._say_refused(rows)
    said = "torch: ModuleNotFoundError: No module named 'torch' (GRAPH_MODE training 1x2x3x4x5"
    assert capsys.readouterr().out == f"{said} and 2 more)\n"


def test_what_is_held_back_comes_unless_it_is_dropped(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(standard_error, "_place", tmp_path / "held")
    with pytest.raises(ZeroDivisionError), standard_error.held_back():
        os.write(2, b"why")
        assert capfd.readouterr().err == ""
        raise ZeroDivisionError
    assert capfd.readouterr().err == "why"
    with standard_error.held_back() as drop:
        os.write(2, b"a page")
        drop()
    assert capfd.readouterr().err == ""
    os.write(2, b"as ever")
    assert capfd.readouterr().err == "as ever"


def die_while_held_back():
    with standard_error.held_back():
        os.write(2, b"terminate called")
        os._exit(134)


def test_what_a_dying_process_wrote_is_shown(capfd):
    with pytest.raises(BrokenExecutor), session.measuring_process(None, 1) as process:
        process(die_while_held_back)
    assert "terminate called" in capfd.readouterr().err


def test_a_shape_that_is_none_is_refused():
    app = typer.Typer()
    app.command()(command.bench)
    done = CliRunner().invoke(app, ["--shape", "1,2,3"])
    assert done.exit_code == 2
    assert "five positive numbers" in done.output


def shown(capsys, quick=False, load=0.0, spread=0.1) -> str:
    """What `bench` prints of one row."""
    measured = {**row((1, 32, 64, 64, 64), bn3d=1.0, stock=2.0), "other_load_cores": load}
    for timing in measured["milliseconds"].values():
        timing.update(p20=timing["p50"], p80=timing["p50"] * (1 + spread))
    measured["refused"] = {"torch": "ModuleNotFoundError: No module named 'torch'"}
    result = {"layers": [measured], "kernels": [], "ratios": ratios([measured])}
    run._print(result, profile=False, quick=quick)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "quick, load, said",
    [
        (True, 0.0, "No summary: this was a quick run"),
        (False, 0.21, "Not measured: the machine is busy (other work kept up to 0.21 cores busy"),
        (True, 0.21, "Not measured: the machine is busy"),
        (False, float("nan"), "other work kept an unknown number of cores busy"),
        (False, 0.2, "bn3d is faster by"),
    ],
)
def test_a_summary_of_nothing_but_a_whole_run_on_a_quiet_machine(quick, load, said, capsys):
    out = shown(capsys, quick, load)
    assert said in out.splitlines()[0]
    assert ("faster by" in out) is (said[0] == "b")
    assert "Warning" not in out


@pytest.mark.parametrize("spread, wide", [(0.29, False), (0.31, True)])
def test_a_warning_of_times_that_spread(spread, wide, capsys):
    out = shown(capsys, spread=spread)
    assert ("Warning: the times of 1 of 1 rows spread by more than 30%" in out) is wide
    assert f"{spread:.0%}\n" in out  # the row says it as well


def test_a_refused_layer_says_why_below_the_table(capsys):
    lines = shown(capsys).splitlines()
    assert any("refused" in line for line in lines)
    (why,) = (line for line in lines if "ModuleNotFoundError" in line)
    assert why.startswith("torch: ModuleNotFoundError: No module named 'torch' (GRAPH_MODE train")


def test_the_picture_has_points_and_no_bar_where_the_axis_has_no_0(tmp_path):
    figures = pytest.importorskip("matplotlib.figure")
    from bn3d.commands.bench import picture  # noqa: PLC0415

    axis = figures.Figure().subplots()
    times = {"bn3d": 1.0, "stock": 4.0, "torch": 2.0, "copy": 0.5}
    case = Case((1, 32, 64, 64, 64))
    rows = {case: {n: {"p20": t, "p50": t, "p80": 2 * t} for n, t in times.items()}}
    picture._draw_panel(axis, [case], rows)
    assert axis.get_xscale() == "log" and not axis.patches
    points = [float(np.ravel(bar.lines[0].get_xdata())[0]) for bar in axis.containers]
    assert points == [2.0, 8.0, 4.0]  # copies
