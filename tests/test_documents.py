"""The documents in two languages say the same; that their blocks run is tested in docs/."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_both_languages_have_the_same_blocks_and_table_rows():
    english = (DOCS / "pytorch_differences.md").read_text(encoding="utf-8")
    chinese = (DOCS / "pytorch_differences.zh.md").read_text(encoding="utf-8")
    blocks = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    assert len(blocks.findall(english)) > 20
    assert blocks.findall(chinese) == blocks.findall(english)
    shape = re.compile(r"^(#+|\|)", re.MULTILINE)
    assert shape.findall(chinese) == shape.findall(english)
