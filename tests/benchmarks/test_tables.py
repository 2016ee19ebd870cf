"""The documents' tables are those of the committed measurements."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import tables

RUN = {
    "command": "bench_networks.py",
    "date": "2026-11-28T20:00:00+00:00",
    "cpu": "a processor",
    "threads": 2,
    "versions": {"mindspore": "2.10.0"},
}


def time(p20: float, p50: float, p80: float) -> dict:
    return {"p20": p20, "p50": p50, "p80": p80}


def network_row(saved: dict, distinguishable: bool) -> dict:
    return {
        "network": "UNet",
        "mode": "graph",
        "shape": [2, 1, 8, 8, 8],
        "other_load_cores": 0.03,
        "distinguishable": distinguishable,
        "milliseconds": {"stock": time(90, 100, 110), "bn3d": time(80, 90, 100)},
        "differences": {
            "saved": saved,
            "noise": time(-1, 0, 1),
            "stock's norm layers": time(11, 12, 13),
            "bn3d's norm layers": time(1, 2, 3),
        },
    }


def test_a_network_is_a_row():
    lines = tables.network_lines({**RUN, "networks": [network_row(time(9, 10, 11), True)]})
    assert lines[2] == (
        "| UNet (2,1,8,8,8) | graph | 100.0 (90.0..110.0) | 12.0 (11.0..13.0) | 2.0 (1.0..3.0) "
        "| 10.0 (9.0..11.0) |"
    )
    assert "2026-11-28" in lines[-1] and "0.03 cores busy" in lines[-1]


def test_the_modes_of_a_network_are_columns():
    row = network_row(time(9, 10, 11), True)
    other = {**row, "mode": "PyNative", "distinguishable": False}
    lines = tables.step_lines({**RUN, "networks": [row, other]})
    assert lines[0] == "| network | graph | PyNative |"
    assert lines[2:] == ["| UNet (2,1,8,8,8) | 100 → 90 | 100 → 90 (noise) |"]


def test_a_difference_in_the_noise_is_said_to_be():
    lines = tables.network_lines({**RUN, "networks": [network_row(time(0, 1, 2), False)]})
    assert "1.0 (0.0..2.0), not distinguishable here (noise 0.0 (-1.0..1.0))" in lines[2]


def test_nothing_is_said_of_what_a_busy_machine_measured():
    row = {**network_row(time(9, 10, 11), True), "other_load_cores": 0.21}
    lines = tables.network_lines({**RUN, "networks": [row]})
    assert lines[2].endswith("| not measured: the machine was busy (0.21 cores) |")


@pytest.mark.parametrize("gradients, said", [((3, 4, 5), "`b` |"), ((9, 10, 11), "no faster here")])
def test_what_to_write_instead_is_beside_it(gradients, said):
    row = {
        "kind": "Activations",
        "written": "a",
        "instead": "b",
        "at_zero": "",
        "shape": [1],
        "other_load_cores": 0.0,
        "milliseconds": {
            "forward": time(4, 5, 6),
            "with gradients": time(9, 10, 11),
            "instead, forward": time(1, 2, 3),
            "instead, with gradients": time(*gradients),
        },
    }
    text = "\n".join(tables.fast_cpu_lines({**RUN, "rows": [row]}))
    assert "**Activations**" in text and said in text


def test_only_the_place_of_a_table_changes():
    text = "before\n<!-- table: networks -->\nold\n<!-- end -->\nafter\n"
    new = tables.filled(
        text, {"networks": {**RUN, "networks": [network_row(time(9, 10, 11), True)]}}
    )
    assert new.startswith("before\n<!-- table: networks -->\n| network |") and "old" not in new
    assert new.endswith("\n<!-- end -->\nafter\n")
    assert tables.filled(new, {}) == new


def test_the_documents_have_a_place_for_each_table():
    texts = "".join(path.read_text(encoding="utf-8") for path in tables.DOCUMENTS)
    for name in tables.TABLES:
        assert f"<!-- table: {name} -->" in texts


def test_the_documents_say_what_was_measured():
    assert tables.main(check=True) == 0, "run python benchmarks/tables.py"


def test_no_quick_run_is_committed():
    assert not any(result["quick"] for result in tables.results().values())


def test_the_texts_say_what_was_measured():
    rows = tables.results()["networks"]["networks"]
    steps = {(row["network"], row["mode"]): row["milliseconds"] for row in rows}
    factors = [
        steps[network, "PyNative"][layers]["p50"] / blocking[layers]["p50"]
        for (network, mode), blocking in steps.items()
        for layers in ("stock", "bn3d")
        if mode == "PyNative, `launch_blocking`"
    ]
    step = steps["R2Plus1D", "PyNative"]
    root = Path(__file__).parents[2]
    for file, between in {
        "README.md": "to",
        "README_CN.md": "至",
        "docs/fast_cpu.md": "to",
        "python/bn3d/commands/info.py": "to",
    }.items():
        text = (root / file).read_text(encoding="utf-8")
        assert f"{min(factors):.1f} {between} {max(factors):.1f}" in text, file
        if file.startswith("README"):
            assert f"| {step['stock']['p50']:.0f} ms | {step['bn3d']['p50']:.0f} ms |" in text, file
