"""Attributes of custom operators that MindSpore obeys, or passes on to CANN."""

from __future__ import annotations

from typing import Any

from mindspore import ops
from mindspore.ops import signature as sig

__all__ = ["InPlaceCustom", "for_ascend"]


class InPlaceCustom(ops.Custom):
    """An operator that writes its inputs moving_mean and moving_variance.

    Without the signature mixed precision would hand it copies of them, without the attribute a
    graph could reorder it, and without `recompute(False)` it would run twice in a network that
    is recomputed.
    """

    __mindspore_signature__ = (
        sig.make_sig("x"),
        sig.make_sig("gamma"),
        sig.make_sig("beta"),
        sig.make_sig("moving_mean", sig.sig_rw.RW_WRITE),
        sig.make_sig("moving_variance", sig.sig_rw.RW_WRITE),
        sig.make_sig("settings"),
    )

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.add_prim_attr("side_effect_mem", True)
        self.recompute(False)


def for_ascend(custom: ops.Custom) -> ops.Custom:
    """An operator of CANN's package, as MindSpore has to launch it."""
    # Kernel by kernel: look for the operator itself and not for an aclnn function of its name.
    custom.add_prim_attr("custom_aclop", True)
    # Kernel by kernel: compile for the shapes that there are; the package has no other kernels.
    custom.add_prim_attr("acl_op_jit_compile", True)
    # Graph engine: volumes are NCDHW, so that it may convert to and from NDC1HWC0.
    custom.add_prim_attr("io_format", "NCDHW")
    # Graph engine: float32 stays so, whatever its precision mode asks of others (an int, as the
    # fusion engine reads it).
    custom.add_prim_attr("_keep_dtype", 1)
    return custom
