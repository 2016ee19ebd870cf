"""What others raise is told in a line: a page by its first, an error without text by its class."""

import pytest

from bn3d import backends, user_code
from bn3d.backends import fallback
from bn3d.commands.bench.cases import Case
from bn3d.commands.bench.layers import prepared
from bn3d.commands.verify.check import guarded
from bn3d.operators import OPERATORS

RAISED = [
    (ValueError("one"), "ValueError: one"),
    (ValueError("\n  one\ntwo\n"), "ValueError: one"),
    (NotImplementedError(), "NotImplementedError"),
    (EOFError(" \n"), "EOFError"),
]


@pytest.fixture(params=RAISED, ids=[repr(error) for error, _ in RAISED])
def raised(request):
    """A function that raises, and the line that tells it."""
    error, line = request.param

    def refuse(*arguments):
        raise error

    return refuse, line


def test_a_benchmark_goes_on(raised):
    refuse, line = raised
    providers = {"stock": refuse, "bn3d": lambda case, step: lambda: None}
    calls, refused = prepared(providers, Case((2, 3, 2, 4, 4)), "inference")
    assert list(calls) == ["bn3d"] and refused == {"stock": line}


def test_a_check_failed(raised):
    refuse, line = raised
    (check,) = guarded("subject", None, refuse)
    assert not check.ok and check.failure == line


def test_a_users_function_failed(raised, monkeypatch):
    refuse, line = raised
    monkeypatch.setattr(user_code, "load", lambda target, option: refuse)
    with pytest.raises(ValueError) as error:
        user_code.built("networks:build", "BUILD")
    assert str(error.value).startswith(f"BUILD: networks:build failed: {line} ({__file__}:")


@pytest.mark.parametrize(
    ("error", "line"),
    [(ValueError("\n  one\ntwo\n"), "one"), (NotImplementedError(), "NotImplementedError()")],
)
def test_an_operator_failed(error, line, monkeypatch):
    def refuse(*arguments):
        raise error

    monkeypatch.setattr(fallback._Call, "compile_and_run", refuse)
    operators = backends.choose().backend.operators
    assert fallback.failure(operators, OPERATORS[0], (2, 3, 2, 4, 4), "float32", ()) == line
