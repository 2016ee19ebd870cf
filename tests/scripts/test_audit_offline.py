"""`scripts/audit_offline.py` on made-up advisories, in the two forms that real ones come in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "audit_offline.py"
LOCK = "# Python 3.11\nSome.Package==2.1.0  # MIT\nother==1.0  # BSD\n"

RANGE = (
    "package: {{ecosystem: PyPI, name: some-package}}, ranges: [{{type: ECOSYSTEM, events: {}}}]"
)
HITS = {
    "never fixed": RANGE.format("[{introduced: '0'}]"),
    "fixed later": RANGE.format("[{introduced: '2.0'}, {fixed: 2.1.1}]"),
    "last one affected": RANGE.format("[{introduced: '0'}, {last_affected: 2.1.0}]"),
    "again": RANGE.format("[{introduced: '0'}, {fixed: '1.0'}, {introduced: '2.1'}]"),
    "listed": "package: {ecosystem: PyPI, name: some_package}, versions: [2.1.0]",
    "not a version": RANGE.format("[{introduced: never}]"),
}
MISSES = {
    "fixed": RANGE.format("[{introduced: '0'}, {fixed: 2.1.0}]"),
    "earlier": RANGE.format("[{introduced: '0'}, {last_affected: 2.0.9}]"),
    "later": RANGE.format("[{introduced: 2.1.1}]"),
    "commits": "package: {ecosystem: PyPI, name: some-package}, ranges: [{type: GIT, events: []}]",
    "another index": "package: {ecosystem: npm, name: other}, versions: ['1.0']",
    "another package": "package: {ecosystem: PyPI, name: third}, versions: ['1.0']",
    "withdrawn": "package: {ecosystem: PyPI, name: other}, versions: ['1.0']",
}


def advisory(affected: str, withdrawn: bool) -> str:
    days = "modified: 2024-10-10T17:35:05Z" + "\nwithdrawn: 2024-10-11T00:00:00Z" * withdrawn
    return f"id: PYSEC-1\n{days}\naffected:\n- {{{affected}}}\n"


def audit(folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "lock").write_text(LOCK)
    command = [sys.executable, SCRIPT, folder, folder / "lock"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("case", HITS)
def test_an_affected_version_is_named(case, tmp_path):
    (tmp_path / "one.yaml").write_text(advisory(HITS[case], withdrawn=False))
    done = audit(tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "some-package 2.1.0: PYSEC-1" in done.stdout


@pytest.mark.parametrize("case", MISSES)
def test_another_version_is_not(case, tmp_path):
    (tmp_path / "one.yaml").write_text(advisory(MISSES[case], case == "withdrawn"))
    unrelated = {"id": "PYSEC-2", "modified": "2024-10-12T00:00:00Z", "affected": []}
    (tmp_path / "two.json").write_text(json.dumps(unrelated))
    done = audit(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "the newest of 2024-10-12" in done.stdout


def test_nothing_to_compare_is_no_success(tmp_path):
    done = audit(tmp_path)
    assert done.returncode == 2
    assert "nothing to compare: 2 packages, 0 advisories" in done.stdout
