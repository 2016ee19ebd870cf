"""Functions with a derivative of their own, in PyNative mode."""

from __future__ import annotations

from bn3d.mindspore_private.names import ask

__all__ = ["Function"]

# A class with static methods `forward(ctx, ...)` and `backward(ctx, ...)`, such as
# `torch.autograd.Function`. None where there is none.
Function = ask(
    "mindspore.common._Function",
    "gradients in PyNative mode are taken by the operators' bprop, which is slower",
)
