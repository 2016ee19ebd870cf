import tbe.dsl as tbe
from tbe.common.utils import para_check

from .kernel import build, from_float32, spread, to_float32


def bn3d_apply_compute(x, mean, multiplier, offset, axes):
    centered = tbe.vsub(to_float32(x), spread(mean, x))
    y = tbe.vadd(tbe.vmul(centered, spread(multiplier, x)), spread(offset, x))
    return [from_float32(y, x.dtype)]


@para_check.check_op_params(
    para_check.REQUIRED_INPUT,
    para_check.REQUIRED_INPUT,
    para_check.REQUIRED_INPUT,
    para_check.REQUIRED_INPUT,
    para_check.REQUIRED_OUTPUT,
    para_check.KERNEL_NAME,
)
def bn3d_apply(x, mean, multiplier, offset, y, kernel_name="bn3d_apply"):
    build(
        bn3d_apply_compute,
        {"x": x},
        {"mean": mean, "multiplier": multiplier, "offset": offset},
        kernel_name,
        reduction=False,
    )
