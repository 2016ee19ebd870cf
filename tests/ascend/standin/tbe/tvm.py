"""`tbe.tvm`: placeholders and the target."""

from contextlib import contextmanager
from types import SimpleNamespace

from tbe.graph import Tensor

in_target = [False]


def placeholder(shape, dtype="float32", name="placeholder"):
    return Tensor(tuple(int(size) for size in shape), dtype, "placeholder", name)


@contextmanager
def _cce():
    in_target[0] = True
    try:
        yield
    finally:
        in_target[0] = False


target = SimpleNamespace(cce=_cce)
