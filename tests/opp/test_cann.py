"""Which package a CANN takes, by the rule in the source of its graph engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from bn3d.opp import cann
from bn3d.opp.vendors import search_order

from .conftest import environment


def with_ranges(root: Path, required: str, part: str = "compiler") -> Path:
    (root / part).mkdir(parents=True, exist_ok=True)
    (root / part / "version.info").write_text(
        f'Version=8.5.0\nrequired_opp_abi_version="{required}"\n'
    )
    return root


@pytest.mark.parametrize(
    ("required", "version", "taken"),
    [
        (">=6.3, <=7.7", "7.7.0.1.238", True),
        (">=6.3, <=7.7", "7.8", False),
        (">=6.3, <=7.7", "8.2.RC1", False),
        (">=3.20, <=9.0", "7.7", True),  # glued together, 320 to 90 is empty
        (">=6.3, <=9.0", "8.10", True),
        (">=6.3, <=8.1", "8.10", True),  # padded, 8.10 is 8.1
        (">=6.3, <=7.7", "7.65", True),  # and lies before 7.7
        (">=6.3, <=7.7, 8.2", "8.2.9", True),
        (">=6.3, <=7.7, 8.2", "8.3", False),
        (">=6.3,<=6.4,>=8.0,<=8.5", "8.1", True),
        (">=6.3", "7.0", False),  # malformed: nothing is taken
        (">=6.3, 7.0, <=7.7", "7.0", False),
        ("<=7.7", "7.0", False),
        (">=6.3, <=x.7", "7.0", False),
        (">=6.3, <=7", "7.0", False),
        ("", "7.0", True),
        (">=6.3, <=7.7", "7.0,6.5", True),  # a list: all must lie in the range
        (">=6.3, <=7.7", "7.0,8.0", False),
        (">=6.3, <=7.7", "nonsense", False),
        (">=6.3, <=7.7", "7", False),
    ],
)
def test_takes_what_the_engine_takes(required: str, version: str, taken: bool, tmp_path: Path):
    assert cann.accepts(with_ranges(tmp_path, required), version) is taken


def test_the_directory_compiler_counts_even_without_a_file(tmp_path: Path):
    with_ranges(tmp_path, ">=6.3, <=7.7", "runtime")
    assert not cann.accepts(tmp_path, "8.0")
    (tmp_path / "compiler").mkdir()
    assert cann.accepts(tmp_path, "8.0")
    with_ranges(tmp_path, ">=8.0, <=8.5")
    assert cann.accepts(tmp_path, "8.0") and not cann.accepts(tmp_path, "7.0")


def test_what_is_in_opp_is_no_range(tmp_path: Path):
    with_ranges(tmp_path, ">=6.3, <=7.7", "opp")
    assert cann.accepts(tmp_path, "8.0")
    assert cann.compiler_version(tmp_path) == "8.5.0"


def test_opp_latest_is_never_checked(tmp_path: Path):
    root = with_ranges(tmp_path, ">=6.3, <=7.7")
    assert cann.accepts(root, "8.0", root / "opp_latest" / "vendors" / "bn3d")


def test_is_named_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """CMake, and a process elsewhere, would look for a relative name in another place."""
    monkeypatch.chdir(tmp_path)
    for variable in ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME"):
        assert cann.find({variable: "cann"}) == tmp_path / "cann"


@pytest.mark.parametrize(("version", "first"), [("8.5.0", "a"), ("9.0.0", "b"), ("9.1.0", "b")])
def test_cann_9_takes_entries_with_a_library_of_their_own_first(
    version: str, first: str, node: Path, tmp_path: Path
):
    (node / "compiler" / "version.info").write_text(f"Version={version}\n")
    for name in "abc":
        (tmp_path / name).mkdir()
    (tmp_path / "b" / "libcust_opapi.so").touch()
    custom = ":".join(str(tmp_path / name) for name in "abc")
    order = search_order(environment(node, ASCEND_CUSTOM_OPP_PATH=custom))
    assert [path.name for path in order] == [first, *(name for name in "abc" if name != first)]
