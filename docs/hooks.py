"""Fits texts that are written for the repository into the site: README is its first page, a link
to a document leads to the same language, and one to a file that is no document becomes its name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
FIRST_PAGES = {"index.md": "README.md", "index.zh.md": "README_CN.md"}
# Badges would be fetched, and for the other language the site has a menu.
LEFT_OUT = re.compile(r"^(!\[.*shields\.io|.*\[(English|中文)\]\().*\n", re.MULTILINE)


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    if page.file.src_uri in FIRST_PAGES:
        readme = ROOT / FIRST_PAGES[page.file.src_uri]
        markdown = readme.read_text(encoding="utf-8").replace("](docs/", "](")
    markdown = LEFT_OUT.sub("", markdown).replace(".zh.md", ".md")
    markdown = re.sub(r"\]\(\.\./README\w*\.md", "](index.md", markdown)
    return re.sub(r"\[([^\]]+)\]\(\.\./[^)]*\)", r"\1", markdown)
