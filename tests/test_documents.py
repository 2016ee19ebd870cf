"""What the documents promise; that their blocks run is tested in docs/."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TEXTS = [
    *ROOT.glob("*.md"),
    *(p for name in ("docs", "benchmarks") for p in (ROOT / name).rglob("*.md")),
    *(p for name in ("python", "examples", "scripts") for p in (ROOT / name).rglob("*.py")),
]


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
