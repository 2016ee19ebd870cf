"""Backend of the native CPU library, through `mindspore.ops.Custom(func_type="aot")`.

The library's fused operators hand on what the gradient needs as `saved` (4, C), the bits of doubles
in int64 like `settings`; see `bn3d.backends.fused`.

Shapes and dtypes are inferred by the library: inference in Python fails in graph mode where they
are known only as the graph runs.

Importing this module loads the library and registers its operators; it raises
`bn3d.backends.library.LibraryError` where that is not possible.
"""

from __future__ import annotations

from collections.abc import Callable

from mindspore import Tensor, ops
from mindspore.ops import CustomRegOp, DataType

from bn3d.backends import library
from bn3d.backends.backend import Backend, Operators
from bn3d.backends.fused import (
    Pass,
    bprop_of_forward,
    differentiable,
    inference_gradient_bprop,
    of_inference,
    of_training,
    training_gradient_bprop,
)
from bn3d.backends.settings import as_bits
from bn3d.mindspore_private.execution import is_recording
from bn3d.mindspore_private.functions import Function
from bn3d.mindspore_private.operators import InPlaceCustom
from bn3d.operators import OPERATORS, Operator

__all__ = ["BACKEND", "custom"]

_LIBRARY = library.load()


def custom(
    name: str,
    inputs: str,
    outputs: str,
    bprop: Callable | None = None,
    kind: type[ops.Custom] = ops.Custom,
) -> ops.Custom:
    """An operator of the library; inputs and outputs are names, separated by blanks.

    DataType.None_None hands tensors over as they are, whatever their dtype.
    """
    registration = CustomRegOp(name)
    for index, tensor in enumerate(inputs.split()):
        registration.input(index, tensor)
    for index, tensor in enumerate(outputs.split()):
        registration.output(index, tensor)
    formats = [DataType.None_None] * len(f"{inputs} {outputs}".split())
    return kind(
        f"{_LIBRARY.path}:{name}",
        func_type="aot",
        bprop=bprop,
        reg_info=registration.dtype_format(*formats).target("CPU").get_op_info(),
    )


_gradient_training = custom(
    "Bn3dGradientTraining",
    "dy x gamma saved",
    "dx dgamma dbeta statistics",
    training_gradient_bprop,
)

_gradient_inference = custom(
    "Bn3dGradientInference",
    "dy x gamma saved",
    "dx dgamma dbeta statistics",
    inference_gradient_bprop,
)


_forward_training = custom(
    "Bn3dForwardTraining",
    "x gamma beta moving_mean moving_variance settings",
    "y saved",
    bprop_of_forward(_gradient_training),
    InPlaceCustom,
)

_forward_inference = custom(
    "Bn3dForwardInference",
    "x gamma beta moving_mean moving_variance settings",
    "y saved",
    bprop_of_forward(_gradient_inference),
)


if Function is not None:
    _training = differentiable(Pass(_forward_training, _gradient_training, of_training))
    _inference = differentiable(Pass(_forward_inference, _gradient_inference, of_inference))
else:  # the operators' bprop serves PyNative mode as well

    def _training(*inputs):
        return _forward_training(*inputs)[0]

    def _inference(*inputs):
        return _forward_inference(*inputs)[0]


def forward_training(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    moving_mean: Tensor,
    moving_variance: Tensor,
    settings: Tensor,
) -> tuple[Tensor, ...]:
    """(y, ...), normalised by the batch; updates the moving statistics."""
    if not is_recording():  # nor does a graph, as it is compiled
        return _forward_training(x, gamma, beta, moving_mean, moving_variance, settings)
    return (_training(x, gamma, beta, moving_mean, moving_variance, settings),)


def forward_inference(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    moving_mean: Tensor,
    moving_variance: Tensor,
    settings: Tensor,
) -> Tensor:
    """y, normalised by the moving statistics."""
    if not is_recording():  # nor does a graph, as it is compiled
        return _forward_inference(x, gamma, beta, moving_mean, moving_variance, settings)[0]
    return _inference(x, gamma, beta, moving_mean, moving_variance, settings)


def _operator(operator: Operator) -> ops.Custom:
    inputs, outputs = (
        " ".join(tensor.name for tensor in tensors)
        for tensors in (operator.inputs, operator.outputs)
    )
    return custom(operator.type, inputs, outputs)


BACKEND = Backend(
    "native",
    as_bits,
    forward_training,
    forward_inference,
    Operators(*(_operator(operator) for operator in OPERATORS)),
    variant=_LIBRARY.instruction_set,
)
