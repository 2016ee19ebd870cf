"""Texts of other people's errors."""

import pytest

from bn3d.commands.bench.cases import Case
from bn3d.commands.bench.device import _run
from bn3d.commands.bench.timing import Effort
from bn3d.commands.verify.check import guarded
from bn3d.errors import check_flag, first_line, type_name


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one"), "one"),
        (ValueError("\n  one\ntwo\n"), "one"),
        (ValueError(), "ValueError"),
        (EOFError(" \n"), "EOFError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_first_line(error, line):
    assert first_line(error) == line


def refuse(*arguments):
    raise NotImplementedError


def test_a_benchmark_goes_on_after_an_error_without_text(monkeypatch):
    monkeypatch.setattr(
        "bn3d.commands.bench.device._wait", lambda: None
    )  # MindSpore refuses it on a CPU
    monkeypatch.setattr("mindspore.nn.BatchNorm3d", refuse)
    row = _run("CPU", Case((2, 3, 2, 4, 4)), "inference", Effort(blocks=1, block_seconds=0.0))
    assert row["refused"] == {"stock": "NotImplementedError: NotImplementedError"}


def test_a_check_that_raises_without_text_failed():
    (check,) = guarded("subject", None, refuse)
    assert not check.ok and check.failure == "NotImplementedError: NotImplementedError"


def test_the_name_of_a_type_tells_it_from_another_of_the_same_name():
    class Tensor:
        pass

    assert type_name(int) == "int"
    assert type_name(Case) == "bn3d.commands.bench.cases.Case"
    assert type_name(Tensor).endswith("test_errors." + Tensor.__qualname__)


def test_a_flag_is_a_bool():
    check_flag("partial", True)
    with pytest.raises(TypeError, match=r"'partial' must be a bool, got 1 \(int\)"):
        check_flag("partial", 1)
