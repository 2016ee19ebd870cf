import tbe.dsl as tbe
from tbe.common.utils import para_check

from .kernel import build, spread, to_float32


def bn3d_grad_reduce_compute(dy, x, mean, axes):
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
    build(
        bn3d_grad_reduce_compute, {"dy": dy, "x": x}, {"mean": mean}, kernel_name, reduction=True
    )
