import tbe.dsl as tbe
from tbe.common.utils import para_check

from .kernel import build, from_float32, spread, to_float32


def bn3d_grad_apply_compute(dy, x, mean, a, b, c, axes):
    centered = tbe.vsub(to_float32(x), spread(mean, x))
    slope = tbe.vmul(to_float32(dy), spread(a, x))
    dx = tbe.vadd(tbe.vadd(slope, tbe.vmul(centered, spread(b, x))), spread(c, x))
    return [from_float32(dx, x.dtype)]


@para_check.check_op_params(
    *[para_check.REQUIRED_INPUT] * 6,
    para_check.REQUIRED_OUTPUT,
    para_check.KERNEL_NAME,
)
def bn3d_grad_apply(dy, x, mean, a, b, c, dx, kernel_name="bn3d_grad_apply"):
    build(
        bn3d_grad_apply_compute,
        {"dy": dy, "x": x},
        {"mean": mean, "a": a, "b": b, "c": c},
        kernel_name,
        reduction=False,
    )
