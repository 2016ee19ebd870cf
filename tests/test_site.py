"""The documents as a site: built strictly, in two languages, searched in both, nothing fetched."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs")

ROOT = Path(__file__).parents[1]
PAGES = ("", "api", "ascend", "ascend_reference", "pytorch_differences")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    # Its notice that MkDocs has a successor is no fault of a page.
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_pages_for_users_are_in_both_languages(site, page):
    english, chinese = (site / each / page / "index.html" for each in ("", "zh"))
    main = re.compile(r"<article.*?</article>", re.DOTALL)
    written = [
        len(re.findall("[一-鿿]", main.search(p.read_text("utf-8"))[0])) for p in (english, chinese)
    ]
    assert written[0] < 20 < written[1]


def test_pages_fetch_nothing(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    tags = re.compile(r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=[\"']?https?:[^>]*>")
    assert not {tag for page in pages for tag in tags.findall(page.read_text("utf-8"))}


def test_the_search_knows_words_of_both_languages(site):
    index = json.loads((site / "search" / "search_index.json").read_text("utf-8"))
    words = {
        word
        for page in index["docs"]
        for word in re.split(index["config"]["separator"], page["title"] + " " + page["text"])
    }
    assert {"momentum", "方差", "检查点", "算子"} <= words


def test_the_api_shows_signatures_and_platforms(site):
    text = re.sub("<[^>]*>", "", (site / "api" / "index.html").read_text("utf-8"))
    for shown in ("num_features: int", "Supported Platforms", "Raises:", "process_groups"):
        assert shown in text
