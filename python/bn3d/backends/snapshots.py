"""Parameters as they are during the forward pass, for the gradient.

PyNative mode keeps references. What is assigned to a parameter between a forward pass and its
gradient, an update of the moving statistics as well, would change the gradient.
"""

from __future__ import annotations

from mindspore import Tensor, ops

from bn3d.mindspore_private.execution import is_recording
from bn3d.mindspore_private.precision import unmixed_call

__all__ = ["copies", "copy"]


def _each_anew(*vectors):
    return tuple([ops.concat((vector,)) for vector in vectors])


_copies = unmixed_call(_each_anew)


def copies(*vectors: Tensor) -> tuple[Tensor, ...]:
    """The values that (C,) vectors have now, where a gradient is to be taken; the vectors
    themselves otherwise. PyNative mode only.
    """
    return _copies(*vectors) if is_recording() else vectors


def copy(vector: Tensor) -> Tensor:
    """The same of one vector, which a gradient towards it goes through, in either mode."""
    return ops.concat((vector,)) if is_recording() else vector
