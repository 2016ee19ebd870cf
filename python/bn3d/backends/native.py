"""Backend of the native CPU library, through `mindspore.ops.Custom(func_type="aot")`.

The library's fused operators take the settings (eps, momentum) as a float64 tensor and save
what the gradient needs as `saved`, float64 (2, C): mean and 1/sqrt(variance + eps).

Importing this module loads the library and registers its operators; it raises
`bn3d.library.LibraryError` where that is not possible.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import ops
from mindspore.ops import CustomRegOp, DataType

from bn3d import library
from bn3d.backends import composed

__all__ = ["forward_inference", "forward_training"]

LIBRARY = library.load()


def _custom(name: str, inputs: str, outputs: str, infer_dtype, bprop=None) -> ops.Custom:
    """An operator of the library; inputs and outputs are names, separated by blanks.

    Shapes are inferred by the library: Python inference fails for dynamic shapes in graph
    mode. DataType.None_None hands tensors over as they are, whatever their dtype.
    """
    registration = CustomRegOp(name)
    for index, tensor in enumerate(inputs.split()):
        registration.input(index, tensor)
    for index, tensor in enumerate(outputs.split()):
        registration.output(index, tensor)
    formats = [DataType.None_None] * len(f"{inputs} {outputs}".split())
    return ops.Custom(
        f"{LIBRARY.path}:{name}",
        out_dtype=infer_dtype,
        func_type="aot",
        bprop=bprop,
        reg_info=registration.dtype_format(*formats).target("CPU").get_op_info(),
    )


# Gradients of gradients are rare, so they are composed.
def _bprop_gradient_training(dy, x, gamma, saved, settings, out, dout):
    d_dy, d_x, d_gamma = composed.gradient_of_gradient_training(dy, x, gamma, settings, dout)
    return d_dy, d_x, d_gamma, ops.zeros_like(saved), ops.zeros_like(settings)


def _bprop_gradient_inference(
    dy, x, gamma, beta, moving_mean, moving_variance, settings, out, dout
):
    d_dy, d_x, d_gamma = composed.gradient_of_gradient_inference(
        dy, x, gamma, moving_mean, moving_variance, settings, dout
    )
    return (
        d_dy,
        d_x,
        d_gamma,
        ops.zeros_like(beta),
        ops.zeros_like(moving_mean),
        ops.zeros_like(moving_variance),
        ops.zeros_like(settings),
    )


_gradient_training = _custom(
    "Bn3dGradientTraining",
    "dy x gamma saved settings",
    "dx dgamma dbeta",
    lambda dy, x, gamma, saved, settings: (x, gamma, gamma),
    _bprop_gradient_training,
)

_gradient_inference = _custom(
    "Bn3dGradientInference",
    "dy x gamma beta moving_mean moving_variance settings",
    "dx dgamma dbeta",
    lambda dy, x, gamma, beta, moving_mean, moving_variance, settings: (x, gamma, gamma),
    _bprop_gradient_inference,
)


def _bprop_training(x, gamma, beta, moving_mean, moving_variance, settings, out, dout):
    dx, dgamma, dbeta = _gradient_training(dout[0], x, gamma, out[1], settings)
    return (
        dx,
        dgamma,
        dbeta,
        ops.zeros_like(moving_mean),
        ops.zeros_like(moving_variance),
        ops.zeros_like(settings),
    )


def _bprop_inference(x, gamma, beta, moving_mean, moving_variance, settings, out, dout):
    dx, dgamma, dbeta = _gradient_inference(
        dout, x, gamma, beta, moving_mean, moving_variance, settings
    )
    return (
        dx,
        dgamma,
        dbeta,
        ops.zeros_like(moving_mean),
        ops.zeros_like(moving_variance),
        ops.zeros_like(settings),
    )


_forward_training = _custom(
    "Bn3dForwardTraining",
    "x gamma beta moving_mean moving_variance settings",
    "y saved",
    lambda x, gamma, beta, moving_mean, moving_variance, settings: (x, ms.float64),
    _bprop_training,
)
# It writes the moving statistics in place: the graph must neither reorder nor repeat it.
_forward_training.add_prim_attr("side_effect_mem", True)

_forward_inference = _custom(
    "Bn3dForwardInference",
    "x gamma beta moving_mean moving_variance settings",
    "y",
    lambda x, gamma, beta, moving_mean, moving_variance, settings: x,
    _bprop_inference,
)


def forward_training(x, gamma, beta, moving_mean, moving_variance, settings):
    """Normalise by the batch and update the moving statistics in place."""
    return _forward_training(x, gamma, beta, moving_mean, moving_variance, settings)[0]


def forward_inference(x, gamma, beta, moving_mean, moving_variance, settings):
    """Normalise by the moving statistics."""
    return _forward_inference(x, gamma, beta, moving_mean, moving_variance, settings)
