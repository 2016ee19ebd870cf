"""What Python computes for the native library: all dtypes in place, and errors with their text."""

import numpy as np
import pytest

from bn3d.backends import python_operators
from support.c_interface import BFLOAT16, DTYPES, call

SHAPE = (2, 3, 2, 1, 2)


def apply(x, dtype):
    vectors = [np.full(3, value, np.float32) for value in (1, 2, 3)]
    y = np.zeros_like(x)
    call("Bn3dNumpyApply", (x, dtype), *vectors, (y, dtype))
    return y


@pytest.fixture(autouse=True)
def by_numpy(monkeypatch):
    monkeypatch.setenv("BN3D_BACKEND", "numpy")
    from bn3d.backends import numpy  # noqa: F401, PLC0415, it says what computes the operators


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_every_dtype(rng, dtype):
    x = dtype.encode(rng.integers(-8, 8, SHAPE).astype(np.float32))
    y = dtype.decode(apply(x, dtype.name))
    np.testing.assert_array_equal(y, (dtype.decode(x).astype(np.float64) - 1) * 2 + 3)


def test_an_empty_volume():
    assert apply(np.zeros((0, 3, 2, 1, 2), np.float32), "float32").shape == (0, 3, 2, 1, 2)


def test_bfloat16_is_rounded_as_by_pytorch(rng):
    torch = pytest.importorskip("torch")
    values = rng.integers(0, 2**32, 10_000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    ties = (np.arange(1000, dtype=np.uint32) << 16 | 0x8000).view(np.float32)
    values = np.concatenate([values, ties, np.float32([np.inf, -np.inf, np.nan, 3.4e38])])
    got = BFLOAT16.decode(python_operators._bfloat16(values))
    want = torch.from_numpy(values).to(torch.bfloat16).to(torch.float32).numpy()
    np.testing.assert_array_equal(got, want)


def test_an_error_is_one_of_the_operator_with_its_text(monkeypatch):
    """As MindSpore turns it into a RuntimeError."""

    def fail(*_):
        raise ArithmeticError("out of order " + "x" * 5000)

    operator = python_operators._in_python[b"Bn3dNumpyApply"]
    monkeypatch.setitem(
        python_operators._in_python, b"Bn3dNumpyApply", operator._replace(function=fail)
    )
    message = python_operators.c_char * 64
    buffer = message()
    assert python_operators._call(b"Bn3dNumpyApply", 0, None, None, None, None, buffer, 64) == 1
    assert buffer.value.startswith(b"ArithmeticError: out of order x")
    assert len(buffer.value) == 63
