"""Which MindSpore goes with which node: what is said of it, and that the documents say the same."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import mindspore as ms
import pytest

from bn3d.opp.node import _PYTHON_PACKAGES
from bn3d.opp.pairing import TABLE, advice

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "mindspore, cann, soc, said",
    [
        ("2.8.0", "8.5.0.1", "ascend910", "2.8.0 goes with CANN's compiler 8.5 and 910A, by"),
        ("2.10.0", "8.5.0", "ascend910", "2.7.2, 2.8.0 do: pip install mindspore==2.8.0"),
        ("2.10.0", "8.5.0", "ascend910b", "2.10.0 goes with CANN's compiler 8.5 and ascend910b"),
        ("2.8.0", "9.0.0", "ascend910b", "2.9.0, 2.10.0 do: pip install mindspore==2.10.0"),
        ("2.8.0", "9.0.0", "ascend910", "no MindSpore from 2.7.0 on goes with CANN's compiler 9.0"),
        ("2.10.0", "7.7.0.1.238", None, "2.7.0 does: pip install mindspore==2.7.0"),
        ("2.10.0", None, "ascend910", "2.10.0 does not go with 910A"),
        ("2.10.0", None, None, "neither CANN's version nor the device is known"),
    ],
)
def test_what_is_said(mindspore, cann, soc, said):
    assert said in advice(mindspore, cann, soc)


def test_the_document_has_the_same_table():
    text = (ROOT / "docs" / "ascend_reference.md").read_text(encoding="utf-8")
    part = text.split("## Which MindSpore with which CANN")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\d[\d.]*) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", part, re.MULTILINE)
    assert rows == [
        (
            release.version,
            release.cann or "not found",
            ", ".join(release.takes),
            "yes" if release.names_910a else "no",
        )
        for release in TABLE
    ]


def test_what_this_mindspore_takes():
    """As the wheel itself has it, wherever it runs."""
    source = Path(ms.__file__).parent / "run_check" / "_check_version.py"
    ascend = source.read_text().partition("class AscendEnvChecker")[2]
    takes = re.search(r"self\.version = \[([^\]]*)\]", ascend)
    release = {release.version: release for release in TABLE}.get(ms.__version__)
    if takes is None or release is None:
        pytest.skip(f"MindSpore {ms.__version__} is not in the table, or has no such check")
    assert re.findall(r'"([\d.]+)"', takes[1]) == list(release.takes)


def test_the_extra_for_910a_pins_what_the_table_says():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = project["optional-dependencies"]["ascend-910a"]
    (pin,) = (each for each in extra if each.startswith("mindspore"))
    last = [release.version for release in TABLE if release.names_910a][-1]
    assert pin == f"mindspore=={last}"
    assert set(_PYTHON_PACKAGES.values()) <= set(extra)
