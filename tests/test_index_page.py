"""The description in the package's metadata: on a package index none of its links is dead."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from email import message_from_string
from pathlib import Path

import pytest

import bn3d

ROOT = Path(__file__).parents[1]
ADDRESS = "https://example.org/somebody/bn3d"
PAGE = runpy.run_path(str(ROOT / "cmake" / "index_page.py"))["page"]
TARGET = re.compile(r"\]\(([^)]*)\)|(?:href|src)=.([^\"']*)")
BUILD = "import sys; from scikit_build_core.build import prepare_metadata_for_build_wheel as write"


def description(folder: Path, urls: str = "") -> str:
    """What a wheel would have, without compiling one."""
    for name in ("README.md", "LICENSE", "pyproject.toml", "CMakeLists.txt"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "cmake", folder / "cmake")
    (folder / "python" / "bn3d").mkdir(parents=True)
    shutil.copy(ROOT / "python" / "bn3d" / "__init__.py", folder / "python" / "bn3d")
    settings = folder / "pyproject.toml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace("[project.scripts]", f"{urls}\n[project.scripts]"), "utf-8")
    built = [sys.executable, "-c", f"{BUILD}; write(sys.argv[1])", str(folder / "built")]
    subprocess.run(built, cwd=folder, check=True, capture_output=True)
    (metadata,) = (folder / "built").glob("*/METADATA")
    found = message_from_string(metadata.read_text(encoding="utf-8"))
    assert found["Description-Content-Type"] == "text/markdown"
    return found.get_payload()


def targets(text: str) -> list[str]:
    return ["".join(found) for found in TARGET.findall(text)]


def test_without_an_address_only_the_text_of_links_stays(tmp_path):
    shown = description(tmp_path)
    assert {target.partition("/badge/")[0] for target in targets(shown)} == {
        "https://img.shields.io"
    }
    assert "testers wanted (four nodes in ten commands)" in shown
    assert shown.count("\n```python\n") == 4  # code is as it was


def test_with_an_address_all_lead_to_the_files_of_the_release(tmp_path):
    shown = description(tmp_path, f'[project.urls]\nRepository = "{ADDRESS}/"\n')
    found = targets(shown)
    assert all(target.startswith("https://") for target in found)
    files = [re.fullmatch(rf"{ADDRESS}/(raw|blob)/v([^/]*)/([^#]*)(#.*)?", t) for t in found]
    files = [each.groups() for each in files if each]
    assert {version for _, version, _, _ in files} == {bn3d.__version__}
    assert all((ROOT / path).is_file() for _, _, path, _ in files)
    assert ("raw", bn3d.__version__, "docs/images/brain.png", None) in files
    assert ("blob", bn3d.__version__, "README.md", "#speed-on-a-cpu") in files


@pytest.mark.parametrize(
    ("text", "without", "with_address"),
    [
        ("[a](b.md)", "a", f"[a]({ADDRESS}/blob/v1/b.md)"),
        ("![a](b.png)", "a", f"![a]({ADDRESS}/raw/v1/b.png)"),
        ("[a\nb](#c), [d](e.md)", "a\nb, d", None),
        ("[a](https://b.c/d)", "[a](https://b.c/d)", "[a](https://b.c/d)"),
        ("[a](mailto:b)", "[a](mailto:b)", "[a](mailto:b)"),
        ("```\n[a](b)\n```\n", "```\n[a](b)\n```\n", "```\n[a](b)\n```\n"),
        ("    [a](b)\n", "    [a](b)\n", "    [a](b)\n"),
    ],
)
def test_links(text, without, with_address):
    assert PAGE(text, None, "1") == without
    if with_address is not None:
        assert PAGE(text, ADDRESS, "1") == with_address
