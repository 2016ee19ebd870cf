"""What a package index shows of README.md: there a relative link or picture leads nowhere.

scikit-build-core calls it, as pyproject.toml says. If `[project.urls] Repository` of pyproject.toml
names an address, links and pictures lead to the files of the release there; else their text stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["dynamic_metadata", "page"]

_CODE = re.compile(r"^```.*?^```\n|^ {4}[^\n]*\n", re.MULTILINE | re.DOTALL)
# [text](target) and ![text](target); a target with a scheme is left as it is.
_LINK = re.compile(r"(!?)\[([^\[\]]*)\]\((?![a-z]+:)([^()\s]*)\)")


def dynamic_metadata(
    field: str, settings: Mapping[str, str], project: Mapping[str, Any]
) -> dict[str, str]:
    """The field `readme`, as scikit-build-core calls a provider; `settings` has the file's name."""
    text = Path(settings["input"]).read_text(encoding="utf-8")
    address = project["urls"].get("Repository") if "urls" in project else None
    shown = page(text, address, project["version"])
    return {"content-type": "text/markdown", "text": shown}


def page(text: str, repository: str | None, version: str) -> str:
    """`text` without relative links. GitHub, Gitee and Gitea find files of a tag as it says."""

    def link(found: re.Match[str]) -> str:
        picture, said, target = found.groups()
        if repository is None:
            return said
        kind = "raw" if picture else "blob"
        if target.startswith("#"):
            target = f"README.md{target}"
        return f"{picture}[{said}]({repository.rstrip('/')}/{kind}/v{version}/{target})"

    parts, end = [], 0
    for code in _CODE.finditer(text):
        parts += [_LINK.sub(link, text[end : code.start()]), code.group()]
        end = code.end()
    return "".join([*parts, _LINK.sub(link, text[end:])])
