"""As many threads for the native library as MindSpore's own kernels get, `runtime_num_threads`."""

from __future__ import annotations

from mindspore import ops

from bn3d.backends import library
from bn3d.mindspore_private.device import kernel_threads

__all__ = ["follow", "follow_now"]


def follow_now() -> bool:
    """Let the library, if there is one, use as many threads as MindSpore says now; True."""
    loaded = library.loaded()
    if loaded is not None:
        loaded.set_threads(kernel_threads())
    return True


@ops.constexpr(get_instance=False, reuse_result=False)
def _follow() -> bool:
    return follow_now()


# mypy takes no decorated function for a base class, whatever the decorator returns.
class _Follow(_follow):  # type: ignore[valid-type, misc]
    def __call__(self) -> bool:
        return follow_now()


# For a cell's construct: in PyNative mode at each call, otherwise as a graph is compiled.
follow = _Follow()
