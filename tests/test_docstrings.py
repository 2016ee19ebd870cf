"""Public names say what they take, give and raise, and their examples run."""

from __future__ import annotations

import doctest
import inspect
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

import bn3d

DOCS = Path(__file__).parents[1] / "docs"
LAYERS = ("BatchNorm3d", "SyncBatchNorm3d")
FUNCTIONS = [name for name in bn3d.__all__ if inspect.isroutine(getattr(bn3d, name))]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples(name):
    """Those of a name, and of the methods of a class."""
    return doctest.DocTestFinder().find(getattr(bn3d, name), name)


@pytest.mark.parametrize("name", bn3d.__all__)
def test_examples_print_what_they_say(name):
    torch = pytest.importorskip("torch")
    known = {"ms": ms, "np": np, "nn": nn, "ops": ops, "torch": torch, "bn3d": bn3d}
    found = [test for test in examples(name) if test.examples]
    assert found
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    for test in found:
        test.globs = dict(known)
        said = []
        runner.run(test, out=said.append)
        assert not runner.failures, "".join(said)


@pytest.mark.parametrize("name", [*LAYERS, *FUNCTIONS])
@pytest.mark.parametrize("section", ["Raises", "Supported Platforms", "Examples"])
def test_functions_and_layers_have_every_section(name, section):
    lines = inspect.getdoc(getattr(bn3d, name)).splitlines()
    assert f"{section}:" in lines
    if section == "Supported Platforms":
        assert lines[lines.index("Supported Platforms:") + 1] == "    ``Ascend`` ``CPU``"


def test_the_layer_says_its_shapes_and_dtypes():
    said = inspect.getdoc(bn3d.BatchNorm3d).partition("Inputs:")[2].partition("Raises:")[0]
    assert "(N, C, D, H, W)" in said
    assert "float32, float16, bfloat16 or float64" in said
    assert "shape and dtype of x" in said
    assert "see `BatchNorm3d`" in inspect.getdoc(bn3d.SyncBatchNorm3d)


@pytest.mark.parametrize("page", ["api.md", "api.zh.md"])
def test_the_page_of_the_api_has_every_public_name(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    listed = [line.split()[1] for line in text.splitlines() if line.startswith(":::")]
    assert sorted(listed) == sorted(f"bn3d.{name}" for name in bn3d.__all__)
