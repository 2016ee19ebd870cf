"""Gradients of the gradients, composed of MindSpore's operators for backends that fuse the rest.

The incoming `douts` are the gradients (u, v, w) towards (dx, dgamma, dbeta). They are computed
in the dtype of eps or rstd, which is wide, and MindSpore differentiates them further.
"""

from __future__ import annotations

from collections.abc import Callable

from mindspore import Tensor, ops

from bn3d.backends.channels import AXES, channel_mean, is_empty, normalize_by, per_channel

__all__ = [
    "gradient_of_gradient_inference",
    "gradient_of_gradient_training",
    "gradient_of_gradient_training_by",
]


def gradient_of_gradient_training_by(channel_mean: Callable[[Tensor], Tensor]) -> Callable:
    """`gradient_of_gradient_training` with another mean over a channel."""
    normalize = normalize_by(channel_mean)

    def gradient_of_gradient_training(dy, x, gamma, eps, douts):
        """Gradients towards (dy, x, gamma) of `bn3d.reference.gradient_training`.

        With h = normalised x, r its factor 1/sqrt(variance + eps), <.> the mean over a channel and
        (u, v, w) the incoming gradients: dx = gamma*r * (dy - <dy> - h*<dy*h>) is derived by dy,
        by h (g below), by r and by gamma; h and r are then derived by x.
        """
        wide = ops.cast(x, eps.dtype)
        eps = per_channel(eps, wide)
        dy = ops.cast(dy, eps.dtype)
        gamma_wide = per_channel(gamma, wide)
        u = ops.cast(douts[0], eps.dtype)
        v = per_channel(douts[1], wide)
        w = per_channel(douts[2], wide)

        h, _, _, r = normalize(wide, eps)
        mean_u, mean_uh = channel_mean(u), channel_mean(u * h)
        mean_dy, mean_dyh = channel_mean(dy), channel_mean(dy * h)

        d_dy = gamma_wide * r * (u - mean_u - h * mean_uh) + v * h + w
        g = dy * v - gamma_wide * r * (u * mean_dyh + dy * mean_uh)
        # <u * dx> / (gamma * r)
        mean_udx = channel_mean(u * dy) - mean_u * mean_dy - mean_uh * mean_dyh
        d_x = r * (g - channel_mean(g) - h * (channel_mean(g * h) + gamma_wide * r * mean_udx))
        d_gamma = _channel_sum(u * (dy - mean_dy - h * mean_dyh) * r, gamma)
        return ops.cast(d_dy, x.dtype), ops.cast(d_x, x.dtype), ops.cast(d_gamma, gamma.dtype)

    return gradient_of_gradient_training


gradient_of_gradient_training = gradient_of_gradient_training_by(channel_mean)


def gradient_of_gradient_inference(
    dy: Tensor,
    x: Tensor,
    gamma: Tensor,
    moving_mean: Tensor,
    rstd: Tensor,
    douts: tuple[Tensor, ...],
) -> tuple[Tensor, Tensor, Tensor]:
    """The same for `reference.gradient_inference`, whose statistics are constants."""
    wide = ops.cast(x, rstd.dtype)
    dy = ops.cast(dy, rstd.dtype)
    u = ops.cast(douts[0], rstd.dtype)
    v = per_channel(douts[1], wide)
    w = per_channel(douts[2], wide)
    r = per_channel(rstd, wide)
    h = (wide - per_channel(moving_mean, wide)) * r
    d_dy = per_channel(gamma, wide) * r * u + v * h + w
    d_gamma = _channel_sum(u * dy * r, gamma)
    return (
        ops.cast(d_dy, x.dtype),
        ops.cast(dy * v * r, x.dtype),
        ops.cast(d_gamma, gamma.dtype),
    )


def _channel_sum(x, gamma):
    return ops.zeros_like(gamma) if is_empty(x.shape) else ops.sum(x, AXES)
