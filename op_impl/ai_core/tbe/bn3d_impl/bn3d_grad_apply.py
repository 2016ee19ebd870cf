"""Bn3dGradApply: the gradient of the volume."""

import tbe.dsl as tbe
from tbe.common.utils import para_check

from .arithmetic import from_float32, spread, to_float32
from .build import build


def bn3d_grad_apply_compute(dy, x, mean, a, b, c, _axes):
    """The sum a * dy + b * (x - mean) + c, rounded once, to x's dtype.

    The built-in gradient multiplies x itself and adds mean * b to the constant: its terms grow
    with mean/std and cancel. Centred, they stay of the size of the result.

    The term of x comes first: the other way round a float32 tile over NCDHW needs up to 1024
    bytes more than the 256 KiB of the on-chip buffer of ascend910, this way 32 KB less.
    """
    centered = tbe.vsub(to_float32(x), spread(mean, x))
    terms = tbe.vadd(tbe.vmul(centered, spread(b, x)), tbe.vmul(to_float32(dy), spread(a, x)))
    return [from_float32(tbe.vadd(terms, spread(c, x)), x.dtype)]


@para_check.check_op_params(
    para_check.REQUIRED_INPUT,
    para_check.REQUIRED_INPUT,
    para_check.REQUIRED_INPUT,
    para_check.REQUIRED_INPUT,
    para_check.REQUIRED_INPUT,
    para_check.REQUIRED_INPUT,
    para_check.REQUIRED_OUTPUT,
    para_check.KERNEL_NAME,
)
def bn3d_grad_apply(dy, x, mean, a, b, c, dx, kernel_name="bn3d_grad_apply"):
    """Compile for the engine's tensor descriptions; dy and x float16, float32 or bfloat16."""
    channels = {"mean": mean, "a": a, "b": b, "c": c}
    build(bn3d_grad_apply_compute, {"dy": dy, "x": x}, channels, kernel_name, reduces=False)
