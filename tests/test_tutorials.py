"""The tutorials run as they stand, and print what stands below their blocks."""

from __future__ import annotations

import pytest

from support.tutorials import TUTORIALS, Block, agrees, blocks, run

ALONE = ["swap_model_zoo.md", "from_pytorch.md"]  # the third is in tests/sync/test_tutorial.py


def test_there_are_no_others():
    others = {path.name for path in TUTORIALS.glob("*.md")} - {*ALONE, "several_processes.md"}
    assert all(name.endswith(".zh.md") or name == "index.md" for name in others)


@pytest.mark.parametrize("name", ALONE)
def test_a_tutorial_prints_what_it_says(name, tmp_path, child_environment):
    if name == "from_pytorch.md":
        pytest.importorskip("torch")
    found = blocks(TUTORIALS / name)
    assert sum(bool(block.output) for block in found) >= 5
    printed = run(found, tmp_path, {**child_environment, "GLOG_v": "3"})
    for block, text in zip(found, printed, strict=True):
        assert agrees(text, block.output), f"{block}\nprinted:\n{text}"


def test_what_is_not_said_does_not_agree():
    assert agrees("wrote x: 3 mapped\n", "wrote ...: 3 mapped")
    assert not agrees("wrote x: 4 mapped\n", "wrote ...: 3 mapped")
    assert not agrees("something\n", "")


def test_blocks_of_a_document(tmp_path):
    document = tmp_path / "a.md"
    document.write_text(
        '```python title="net.py"\nx = 1\n```\n\n```python\nprint(2)\n```\n\n    2\n\n'
        "text\n\n```console\n$ bn3d a\nout\n$ bn3d b\n```\n"
    )
    assert blocks(document) == [
        Block(code="x = 1\n", title="net.py"),
        Block(code="print(2)\n", output="2"),
        Block(command="bn3d a", output="out"),
        Block(command="bn3d b"),
    ]
