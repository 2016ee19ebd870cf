"""What the documents promise; that their blocks run is tested in docs/."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import mindspore as ms

import bn3d

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TEXTS = [
    *ROOT.glob("*.md"),
    *(p for name in ("docs", "benchmarks") for p in (ROOT / name).rglob("*.md")),
    *(p for name in ("python", "examples", "scripts") for p in (ROOT / name).rglob("*.py")),
]


def test_file_names_in_the_documents_have_the_version():
    named = re.findall(r"bn3d-opp-(\d[\d.]*)-", (DOCS / "ascend.md").read_text(encoding="utf-8"))
    assert set(named) == {bn3d.__version__}


def test_private_imports_from_mindspore_are_listed():
    """With their files, in docs/maintaining.md; not one too few, not one too many."""
    text = (DOCS / "maintaining.md").read_text(encoding="utf-8")
    listed = {
        (name, file)
        for name, files in re.findall(r"^\| `(mindspore\..*?)` \| (`.+?`) \|", text, re.MULTILINE)
        if "._" in name
        for file in _quoted(files)
    }
    package = ROOT / "python" / "bn3d"
    imports = re.compile(r"^from (mindspore[\w.]*) import (.+)$", re.MULTILINE)
    found = {
        (f"{module}.{name}", path.relative_to(package).as_posix())
        for path in package.rglob("*.py")
        for module, names in imports.findall(path.read_text(encoding="utf-8"))
        for name in names.split(", ")
        if "._" in f"{module}.{name}"
    }
    assert found and found == listed


def _quoted(cell: str) -> list[str]:
    return re.findall(r"`(.+?)`", cell)


def test_links_lead_somewhere():
    for path in (path for path in TEXTS if path.suffix == ".md"):
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), f"{path.relative_to(ROOT)}: {link}"


def test_nobody_is_sent_to_an_index_for_bn3d():
    """It is not published: it is installed from its sources."""
    published = re.compile(r"pip install[^&\n]*\bbn3d\b")
    assert len(TEXTS) > 50
    assert not [path for path in TEXTS if published.search(path.read_text(encoding="utf-8"))]


def test_both_languages_have_the_same_blocks_and_table_rows():
    english = (DOCS / "pytorch_differences.md").read_text(encoding="utf-8")
    chinese = (DOCS / "pytorch_differences.zh.md").read_text(encoding="utf-8")
    blocks = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    assert len(blocks.findall(english)) > 20
    assert blocks.findall(chinese) == blocks.findall(english)
    shape = re.compile(r"^(#+|\|)", re.MULTILINE)
    assert shape.findall(chinese) == shape.findall(english)


def test_the_script_of_the_table_of_reductions_runs():
    """The second one is worth the digits that docs/ascend.md says."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    script = runpy.run_path(str(ROOT / "scripts" / "reduction_errors.py"))
    once, twice = (script["errors"](100.0, script["pairwise"], n)[0] for n in (1, 2))
    assert once > 1e-3
    assert twice < 2e-6
