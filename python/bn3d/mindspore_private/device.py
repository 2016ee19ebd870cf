"""The device behind the device target, and its threads."""

from __future__ import annotations

import mindspore as ms

from bn3d.mindspore_private.names import ask

__all__ = ["kernel_threads", "soc_name"]

_MSContext = ask("mindspore._c_expression.MSContext", "the kind of an Ascend device is not checked")
_parameters = ask(
    "mindspore._c_expression.ms_ctx_param",
    "the number of threads is asked for in the documented way, which takes longer",
)


def soc_name() -> str | None:
    """The device as CANN spells its op-info, "ascend910" or "ascend910b"; None if unknown."""
    if _MSContext is None:
        return None
    return _MSContext.get_instance().get_ascend_soc_version() or None


def kernel_threads() -> int:
    """`runtime_num_threads`. `mindspore.get_context` checks its arguments for as long as a small
    layer takes.
    """
    if _MSContext is None or _parameters is None:
        return ms.get_context("runtime_num_threads")
    return _MSContext.get_instance().get_param(_parameters.runtime_num_threads)
