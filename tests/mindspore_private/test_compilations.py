"""What is asked when a graph was compiled, and the graph that is compiled once more."""

from __future__ import annotations

import mindspore as ms
import pytest
from mindspore import nn, ops

from bn3d.mindspore_private import compilations, graphs

seen: list[tuple[int, ...]] = []
failures: list[bool] = []


@ops.constexpr(reuse_result=False, check=False)
def noted(shape):
    """Whenever a graph is compiled; then the next of `failures` says whether that fails."""
    seen.append(shape)
    if failures and failures.pop(0):
        raise RuntimeError("no kernel")
    return len(seen)


class Net(nn.Cell):
    """Adds how often it was compiled."""

    def construct(self, x):
        return x + noted(x.shape)


def by_cell():
    ms.set_context(mode=ms.GRAPH_MODE)
    return Net()


def by_function():
    ms.set_context(mode=ms.PYNATIVE_MODE)
    net = Net()
    return ms.jit(net.construct)


@pytest.fixture(params=[by_cell, by_function])
def call(request):
    before = ms.get_context("mode")
    seen.clear()
    yield request.param()
    ms.set_context(mode=before)


@pytest.fixture
def ask(monkeypatch):
    def ask(*answers):
        answers = list(answers)
        asked = []

        def question(engine):
            # A graph of its own, of which nothing is asked.
            asked.append(Other().compile_and_run(ms.Tensor([1.0])).asnumpy()[0])
            return bool(answers) and answers.pop(0)

        monkeypatch.setattr(compilations, "_questions", [])
        compilations.recompile_if(question)
        return asked

    return ask


class Other(nn.Cell):
    def construct(self, x):
        return x * 2


def test_asked_after_each_compilation_and_nothing_is_compiled_twice(call, ask):
    asked = ask()
    for size in (2, 2, 3):
        assert call(ops.zeros(size)).shape == (size,)
    assert seen == [(2,), (3,)]
    assert asked == [2.0] * 3  # a graph that is there is looked up by the same method


@pytest.mark.parametrize("known", [True, False], ids=["names known", "names changed"])
def test_a_graph_is_compiled_once_more(call, ask, monkeypatch, known):
    monkeypatch.setattr(graphs, "_KNOWN", known)
    if not known:  # a MindSpore that has not the names by which one graph is dropped
        monkeypatch.setattr(graphs, "_api", None)
    ask(True)
    assert call(ops.zeros(2)).asnumpy().tolist() == [2, 2]
    assert call(ops.zeros(2)).asnumpy().tolist() == [2, 2]
    assert len(seen) == 2


def test_a_compilation_that_fails_is_repeated_if_that_may_help(call, ask):
    failures.extend([True, True, False])
    ask(False, True)
    with pytest.raises(RuntimeError, match="no kernel"):
        call(ops.zeros(2))
    assert call(ops.zeros(2)).asnumpy().tolist() == [3, 3]
