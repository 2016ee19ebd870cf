"""Bn3dGradReduce: the two sums of every channel that all gradients are made of."""

import tbe.dsl as tbe
from tbe.common.utils import para_check

from .arithmetic import spread, to_float32
from .build import build


def bn3d_grad_reduce_compute(dy, x, mean, axes):
    """sum(dy) and sum(dy * (x - mean)).

    The mean is subtracted before the product: sum(dy * x) - mean * sum(dy) would cancel.
    The standard deviation is left out, a factor of the channel that the framework applies to
    the sum. So the built-in's own template (BN_UPDATE_GRAD: dy, x, mean, variance) is out of
    reach; the generic reduction that takes this graph binds all cores as well.
    """
    dy = to_float32(dy)
    centered = tbe.vsub(to_float32(x), spread(mean, x))
    return tbe.tuple_sum([dy, tbe.vmul(dy, centered)], axes, True)


@para_check.check_op_params(
    para_check.REQUIRED_INPUT,
    para_check.REQUIRED_INPUT,
    para_check.REQUIRED_INPUT,
    para_check.REQUIRED_OUTPUT,
    para_check.REQUIRED_OUTPUT,
    para_check.KERNEL_NAME,
)
def bn3d_grad_reduce(dy, x, mean, sum_dy, sum_dy_centered, kernel_name="bn3d_grad_reduce"):
    """Compile for the engine's tensor descriptions; dy and x float16, float32 or bfloat16."""
    volumes = {"dy": dy, "x": x}
    build(bn3d_grad_reduce_compute, volumes, {"mean": mean}, kernel_name, reduces=True)
