"""`bn3d bench --device`, with the CPU standing in for the device; never its times."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from bn3d.backends import split
from bn3d.commands.bench import command, run
from bn3d.commands.bench.cases import Case
from bn3d.commands.bench.device import _run, volumes_moved
from bn3d.commands.bench.timing import Effort

CASE = Case((2, 3, 2, 4, 4), "float16")


@pytest.mark.parametrize(
    ("step", "once", "twice"),
    [("inference", 2, 2), ("training", 3, 4), ("forward_backward", 8, 9)],
)
def test_volumes_that_the_operators_move(step, once, twice):
    assert (volumes_moved(step, 1), volumes_moved(step, 2)) == (once, twice)


@pytest.mark.parametrize("step", command.STEPS)
def test_a_row_has_rates_that_follow_from_its_times(step, monkeypatch):
    monkeypatch.setattr(
        "bn3d.commands.bench.device._wait", lambda: None
    )  # MindSpore refuses it on a CPU
    monkeypatch.setenv(split.REDUCTIONS_VARIABLE, "1")
    row = _run("CPU", CASE, step, Effort(blocks=1, block_seconds=0.0))
    times = row["milliseconds"]
    assert (row["backend"], row["refused"]) == ("native", {})
    assert row["other_load_cores"] >= 0
    assert set(times) == {"bn3d", "stock", "copy"} and min(times.values()) > 0
    assert row["bytes_moved"] == 2 * 2 * 3 * 2 * 4 * 4 * volumes_moved(step, 1)
    rate = row["bytes_moved"] / times["bn3d"] / 1e6
    assert row["gigabytes_a_second"] == pytest.approx(rate, rel=0.01, abs=0.01)


def test_the_command_prints_and_writes_what_was_measured(tmp_path, monkeypatch):
    row = {
        "mode": "GRAPH_MODE",
        "shape": CASE.shape,
        "dtype": CASE.dtype,
        "step": "training",
        "milliseconds": {"bn3d": 2.0, "stock": 5.0, "copy": 1.0},
        "gigabytes_a_second": 500.0,
        "memory_gigabytes_a_second": 1000.0,
        "of_the_roofline": 0.5,
        "other_load_cores": 0.0,
        "refused": {"stock": "TypeError: no"},
    }
    monkeypatch.setattr("bn3d.commands.verify.session.set_device", lambda device: None)
    monkeypatch.setattr(run, "measure_device", lambda *arguments: [row])
    app = typer.Typer()
    app.command()(command.bench)
    done = CliRunner().invoke(app, ["--device", "Ascend", "--output", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "2.50" in done.output and "50%" in done.output and "TypeError: no" in done.output
    report = json.loads((tmp_path / "bench_ascend.json").read_text())
    assert report["layers"][0]["milliseconds"] == row["milliseconds"]
    assert "Warning" not in done.output
    row["other_load_cores"] = 0.5
    done = CliRunner().invoke(app, ["--device", "Ascend", "-o", str(tmp_path)])
    assert "Warning: other work kept up to 0.5 cores busy" in done.output


@pytest.mark.parametrize("option", ["--profile", "--no-layers", "--kernels", "--no-kernels"])
def test_options_that_mean_nothing_on_a_device_are_refused(option):
    app = typer.Typer()
    app.command()(command.bench)
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["--device", "Ascend", option])
    assert done.exit_code == 2
    assert option.removeprefix("--no-").removeprefix("--") in done.output
    assert "is for --device CPU only" in done.output


@pytest.mark.parametrize(
    ("options", "modes"),
    [
        ([], ["GRAPH_MODE", "PYNATIVE_MODE"]),
        (["--quick"], ["GRAPH_MODE"]),
        (["--quick", "--mode", "PYNATIVE_MODE"], ["PYNATIVE_MODE"]),
    ],
)
def test_a_quick_run_is_quick_on_a_device(options, modes, tmp_path, monkeypatch):
    asked = []

    def measure(device, cases, modes, steps, *rest):
        asked.extend(modes)
        return []

    monkeypatch.setattr("bn3d.commands.verify.session.set_device", lambda device: None)
    monkeypatch.setattr(run, "measure_device", measure)
    app = typer.Typer()
    app.command()(command.bench)
    arguments = ["--device", "Ascend", "--output", str(tmp_path), *options]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert asked == modes


def test_a_device_that_is_not_there_is_exit_code_2():
    app = typer.Typer()
    app.command()(command.bench)
    done = CliRunner().invoke(app, ["--device", "Ascend"])
    assert done.exit_code == 2
    assert "has no device Ascend here" in done.output
