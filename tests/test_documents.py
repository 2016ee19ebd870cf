"""What the documents promise; that their blocks run is tested in docs/."""

from __future__ import annotations

import re
import runpy
from collections import Counter
from pathlib import Path

import mindspore as ms
import pytest

import bn3d

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TEXTS = [
    *ROOT.glob("*.md"),
    *(p for name in ("docs", "benchmarks") for p in (ROOT / name).rglob("*.md")),
    *(p for name in ("python", "examples", "scripts") for p in (ROOT / name).rglob("*.py")),
]


def test_file_names_in_the_documents_have_the_version():
    named = re.findall(
        r"bn3d-opp-(\d[\d.]*)-", (DOCS / "ascend_reference.md").read_text(encoding="utf-8")
    )
    assert set(named) == {bn3d.__version__}


# Folders of the repository, and what else has such a name.
FOLDERS = ("tests", "scripts", "docs", "benchmarks", "examples", "cmake", "python/bn3d")
FOLDERS += ("op_impl", "op_proto")
IN_THE_PACKAGE = ("op_proto/lib/", "op_impl/ai_core/tbe/config")
# Files that are not of the repository: of CANN, of MindSpore, of the reader, or written by bn3d.
ELSEWHERE = {
    *("set_env.sh", "set_env.bash", "acl_base.h", "version_match.json", "_check_version.py"),
    *("train.py", "network.py", "bench.json"),
}
FILE = re.compile(r"[\w./-]*\w\.(?:py|sh|cc|h|md|toml|json|txt|lock|cmake|yml)")


def sources():
    """Every text of the repository that people have written."""
    yield from (p for p in ROOT.iterdir() if p.suffix in (".md", ".py", ".toml", ".txt"))
    yield from (ROOT / ".github").rglob("*.yml")
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".md", ".py", ".sh", ".cc", ".h", ".txt", ".cmake"):
                yield path


def test_paths_of_the_repository_exist():
    """In documents, comments, scripts and settings; tests also make paths up."""
    path = re.compile(rf"(?<![\w/.$}}-])(?:{'|'.join(FOLDERS)})/[\w./*-]*\w")
    missing = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in sources()
        for name in path.findall(file.read_text(encoding="utf-8"))
        if not any(ROOT.glob(name)) and not name.startswith(IN_THE_PACKAGE)
        if not (file.is_relative_to(ROOT / "tests") and name.startswith("op_"))
    }
    assert not missing


def test_files_that_the_documents_name_exist():
    """A name without its folder as well."""
    names = {path.name for path in [*sources(), *ROOT.iterdir()]} | ELSEWHERE
    names |= {path.name for path in (ROOT / "tests").rglob("*.json")}
    missing = {
        f"{document.relative_to(ROOT)}: {word}"
        for document in TEXTS
        if document.suffix == ".md"
        for quoted in re.findall(r"`([^`\n]+)`", document.read_text(encoding="utf-8"))
        for word in quoted.split()
        if FILE.fullmatch(word) and Path(word).name not in names
    }
    assert not missing


def test_links_lead_somewhere():
    for path in (path for path in TEXTS if path.suffix == ".md"):
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), f"{path.relative_to(ROOT)}: {link}"


def test_nobody_is_sent_to_an_index_for_bn3d():
    """It is not published: it is installed from its sources."""
    published = re.compile(r"pip install[^&\n`]*\bbn3d\b")
    assert len(TEXTS) > 50
    assert not [path for path in TEXTS if published.search(path.read_text(encoding="utf-8"))]


# Each in English and in Chinese.
TWINS = [(ROOT / "README.md", ROOT / "README_CN.md")]
TWINS += [(p.with_name(p.name.replace(".zh.", ".")), p) for p in sorted(DOCS.rglob("*.zh.md"))]
NUMBER = re.compile(r"\d+(?:[.,]\d+)*[⁰¹²³⁴-⁹]*")


def sections(path):
    """Of each heading its level, the commands and code below it, the kinds of lines, the numbers.

    Comments of commands are translated, Python's are not; links lead to the other language.
    """
    text = re.sub(r"\]\([^)]*\)|<!--.*?-->", "]", path.read_text(encoding="utf-8"))
    for section in re.split(r"^(?=#+ )", text, flags=re.MULTILINE):
        fences = re.findall(r"^ *```.*?^ *```$", section, re.MULTILINE | re.DOTALL)
        prose = re.sub(r"^ *```.*?^ *```$", "", section, flags=re.MULTILINE | re.DOTALL)
        commands = [c.partition(" #")[0].rstrip() for c in re.findall(r"^ {4}\S.*", prose, re.M)]
        prose = re.sub(r"^ {4}\S.*", "", prose, flags=re.MULTILINE)
        yield {
            "heading": section.partition("\n")[0],
            "level": re.match("#*", section)[0],
            "code": fences,
            "commands": [command for command in commands if command],
            "rows and items": re.findall(r"^ *(\||- |\d\. )", prose, re.MULTILINE),
            "columns": [line.count("|") for line in prose.splitlines() if line.startswith("|")],
            "numbers": sorted(NUMBER.findall(prose)),
        }


def test_documents_for_users_are_in_both_languages():
    chinese = {path.name for _, path in TWINS}
    for name in ("index", "ascend", "ascend_reference", "pytorch_differences"):
        assert f"{name}.zh.md" in chinese


@pytest.mark.parametrize("english, chinese", TWINS, ids=lambda path: path.name)
def test_both_languages_have_the_same_headings_commands_and_numbers(english, chinese):
    assert [s["level"] for s in sections(chinese)] == [s["level"] for s in sections(english)]
    for ours, theirs in zip(sections(english), sections(chinese), strict=True):
        missing, more = Counter(ours["numbers"]), Counter(theirs["numbers"])
        assert (ours["heading"], missing - more, more - missing) == (ours["heading"], {}, {})
        assert {**theirs, "heading": ""} == {**ours, "heading": ""}


def test_another_number_or_command_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A\n\n3 of 4\n\n    run --it   # now\n", encoding="utf-8")
    (first, section) = sections(page)
    assert section["numbers"] == ["3", "4"]
    assert section["commands"] == ["    run --it"]
    assert not first["numbers"]


def test_the_script_of_the_table_of_reductions_runs():
    """The second one is worth the digits that docs/ascend_reference.md says."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    script = runpy.run_path(str(ROOT / "scripts" / "reduction_errors.py"))
    once, twice = (script["errors"](100.0, script["pairwise"], n)[0] for n in (1, 2))
    assert once > 1e-3
    assert twice < 2e-6
