"""What commands print: no word is cut on a terminal of any width, and in a file a row is a line."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from bn3d import outputs, tables
from bn3d.commands import check, info_command
from bn3d.commands.bench import device, run
from bn3d.commands.bench.cases import MODES, STEPS, all_cases
from bn3d.commands.bench.report import ratios
from bn3d.commands.cli import app
from bn3d.commands.verify import command as verify
from bn3d.commands.verify.check import Case, Check
from bn3d.migrate import command as convert
from bn3d.migrate.report import Conversion, Mapped
from bn3d.networks.cross_check import CrossCheck, LayerCheck
from bn3d.networks.judging import Quantity
from bn3d.operators import OPERATORS
from bn3d.opp import cli as opp
from bn3d.opp.deploy import Result
from bn3d.opp.status import report
from support.printing import Terminal, printed, words

COMMANDS = ["", "bench", "check", "convert", "demo", "info", "opp", "opp deploy", "verify"]
PATH = "/a/long/path/" + "x" * 100 + "/lib.so"


def bench_result() -> dict:
    timing = {"p20": 123.4, "p50": 234.5, "p80": 345.6, "page_faults": 12345.0}
    milliseconds = dict.fromkeys(("bn3d", "stock", "torch", "bare", "copy", "kernels"), timing)
    kernels = {f"Bn3dNumber{i}Kernel": timing for i in range(7)}
    common = {"other_load_cores": 0.0, "refused": {"torch": "TypeError: " + "why " * 50}}
    layers = [
        {**common, "mode": m, "step": s, "shape": c.shape, "dtype": c.dtype}
        | {"milliseconds": milliseconds}
        for m in MODES
        for s in STEPS
        for c in all_cases()
    ]
    kernel_rows = [
        {**common, "shape": c.shape, "dtype": c.dtype}
        | {"milliseconds": {**kernels, "copy": timing}}
        for c in all_cases()
    ]
    return {"layers": layers, "kernels": kernel_rows, "ratios": ratios(layers)}


def device_rows() -> list[dict]:
    return [
        {**row, "milliseconds": {"bn3d": 1234.567, "stock": 2345.678, "copy": 1.0}}
        | {"gigabytes_a_second": 1234.0, "memory_gigabytes_a_second": 1e3, "of_the_roofline": 1.0}
        for row in bench_result()["layers"]
    ]


def checks() -> list[Check]:
    subjects = [*(operator.type for operator in OPERATORS), "layer, training, mean 1000"]
    return [
        Check(subject, "moving_variance", Case((2, 2880, 16, 128, 128), dtype, mode), error, 1e-5)
        for subject in subjects
        for mode in MODES
        for dtype, error in [("float32", 1e-6), ("float16", 1e-2), ("bfloat16", float("nan"))]
    ]


def cross_checks() -> dict[str, CrossCheck]:
    names = ("y", "moving_mean", "moving_variance", "dx", "dgamma", "dbeta")
    quantities = tuple(Quantity(name, "float32", 1e-3, (1.0, 2.0)) for name in names)
    name = f"encoder.{'stage.' * 20}norm"
    shape = (2, 2880, 16, 128, 128)
    layer = LayerCheck(name, "BatchNorm3d", "native, avx2", shape, "float32", 1, quantities, ())
    wrong = f"moving_variance is {'nan where the judge has 1 ' * 5}"
    silent = replace(layer, calls=0, backend="mindspore")
    found = CrossCheck([layer, replace(layer, reasons=(wrong,)), silent], True, ["why " * 40])
    return {"as it is": found, "after bn3d.swap": found}


def conversion() -> Conversion:
    name = f"encoder.{'stage.' * 20}norm.running_mean"
    return Conversion(
        mapped=[Mapped(name, name, (64,), "float32", "float64")],
        missing={name: "nothing in the file is called so, nor anything like it"},
        unexpected=[name],
        mismatched={name: "shape (1, 2, 3, 4, 5) where the network has (5, 4, 3, 2, 1)"},
        filled={name: "1, which is what it computes with"},
        dropped=[name],
    )


def deployed() -> list[Result]:
    state = {"version": "0.1.0", "location": PATH, "searched": False}
    return [
        Result("node1", True, state, ""),
        Result("user@a-node-of-a-cluster", False, {}, "error: " + "it has no such thing " * 9),
    ]


STATE = {"installed": True, "version": "0.1.0", "arch": "aarch64", "location": PATH, "cann": None}
STATE |= {"socs": ["ascend910", "ascend910b", "ascend910_93"] * 4, "built_with": "8.5"}
STATE |= {"damaged": [], "accepted": False, "searched": False, "shadowed_by": PATH, "active": False}

PRINTED = {
    "check": lambda: check._show(cross_checks()),
    "convert": lambda: convert._show(conversion(), verbose=True),
    "wrote": lambda: outputs.say_written(PATH, f": {conversion().summary}"),
    "opp deploy": lambda: print(opp._table(deployed(), tables.width_of())),
    "opp status": lambda: tables.say(report(STATE)),
    "info": info_command.show,
    "pairs": lambda: print(tables.pairs([("a", PATH), ("b", "w " * 90)], tables.width_of())),
    "say": lambda: tables.say(f"  {'words ' * 30}{PATH} {'words ' * 30}"),
    "verify": lambda: verify._show(checks(), "backend native on CPU"),
    "bench": lambda: run._print(bench_result(), profile=True, quick=False),
    "bench, Ascend": lambda: print(device.device_table(device_rows(), tables.width_of())),
}


def cannot_fold(line: str) -> bool:
    """One word, such as a path, by itself or behind its name."""
    return len(line.split()) <= 2 or re.fullmatch(r"\S+( \S+)* {2,}\S+", line) is not None


@pytest.mark.parametrize("name", PRINTED)
@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("term", ["xterm-256color", "dumb"])
def test_no_word_is_cut_and_no_line_is_too_long(name: str, columns: int, term: str, monkeypatch):
    monkeypatch.setenv("TERM", term)
    whole = printed(PRINTED[name], monkeypatch, None)
    folded = printed(PRINTED[name], monkeypatch, columns)
    assert words(whole) <= words(folded)
    assert all(len(line) <= columns or cannot_fold(line) for line in folded)
    assert all(line == line.rstrip() for line in folded)


def test_errors_fold_on_a_terminal_and_are_a_line_in_a_file(monkeypatch, capsys):
    tables.say_error("why " * 50)
    assert capsys.readouterr().err == f"bn3d: {'why ' * 50}\n"
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys, "stderr", Terminal())
    tables.say_error("why " * 50)
    lines = sys.stderr.getvalue().splitlines()
    assert len(lines) > 1 and all(len(line) <= 60 for line in lines)


@pytest.mark.parametrize("name", PRINTED)
def test_a_row_is_a_line_in_a_file_and_nothing_but_text_anywhere(name: str, monkeypatch):
    whole = printed(PRINTED[name], monkeypatch, None)
    assert max(map(len, whole)) > 60 or name == "info"
    for line in (*whole, *printed(PRINTED[name], monkeypatch, 80)):
        assert line.isprintable() and "…" not in line


def test_bench_is_readable_at_80_columns(monkeypatch):
    """A row is a line: the least that its table takes."""
    lines = printed(PRINTED["bench"], monkeypatch, 80)
    case = "2x64x16x56x56 bfloat16"
    rows = [line for line in lines if line.startswith(case) and "GRAPH" not in line]
    assert sum(line.count("1.00") >= 2 and line.endswith("%") for line in rows) == 6
    assert lines[0].startswith("bn3d is faster by")


def test_the_verdict_is_one_line_at_60_columns(monkeypatch):
    lines = printed(PRINTED["verify"], monkeypatch, 60)
    assert lines[:2] == ["wrong: 20 of 30 checks failed, backend native on CPU", ""]


def test_numbers_stand_on_the_right_and_names_on_the_left():
    shown = tables.table(("name", "ms"), [("a", "1"), ("bcdef", "100")])
    assert shown.splitlines() == ["name    ms", "-----  ---", "a        1", "bcdef  100"]


def test_a_row_that_is_too_wide_goes_on_below_its_names():
    header, row = ("case", "mode", "first ms", "second ms", "third ms"), ("c", "m", "1", "", "3")
    shown = tables.table(header, [row], 20, names=2)
    assert shown.splitlines() == ["case, mode:", "c, m", "  first ms 1", "  third ms 3"]


def run_with(arguments: list[str]) -> int | str | None:
    """The exit code; not by CliRunner, which has a width of its own."""
    with pytest.raises(SystemExit) as ended:
        get_command(app).main(arguments, prog_name="bn3d")
    return ended.value.code


@pytest.mark.parametrize("term", ["xterm-256color", "dumb"])
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_help_is_whole_at_any_width(columns: int, term: str, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", term)
    for command in COMMANDS:
        assert run_with([*command.split(), "-h"]) == 0
        shown = capsys.readouterr().out
        usage = ("[ARGS]...", "hosts...", "{hosts}...")
        assert {word for word in shown.split() if "..." in word or "…" in word} <= set(usage)
        assert all(len(line) <= columns or len(line.split()) <= 2 for line in shown.splitlines())
        assert shown.isascii()


@pytest.mark.parametrize("term", ["xterm-256color", "dumb"])
def test_wrong_use_begins_with_the_prefix_of_all_errors(term: str, monkeypatch, capsys):
    monkeypatch.setenv("TERM", term)
    for arguments in (["--nothing"], ["nothing"], ["verify", "--nothing"], ["opp", "nothing"]):
        assert run_with(arguments) == 2
        first, second = capsys.readouterr().err.splitlines()
        assert first.startswith("bn3d: No such ") and "nothing" in first
        assert second == f"Try `{' '.join(['bn3d', *arguments[:-1]])} -h`."


def test_a_command_that_is_missing_shows_the_help():
    done = CliRunner().invoke(app, [])
    assert done.exit_code == 2 and "Commands:" in done.stderr + done.stdout
    assert "bn3d: " not in done.stderr
