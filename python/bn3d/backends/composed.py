"""Backend composed of MindSpore's own operators: any device, any platform, no operator of ours.

The formulas are those of `bn3d.reference`, in `settings.dtype` (float64 on a CPU, float32
elsewhere). MindSpore differentiates them, so gradients of any order follow from here.
"""

from __future__ import annotations

from mindspore import Tensor, ops

__all__ = [
    "forward_inference",
    "forward_training",
    "gradient_of_gradient_inference",
    "gradient_of_gradient_training",
]

_AXES = (0, 2, 3, 4)


def _per_channel(vector: Tensor, like: Tensor) -> Tensor:
    return ops.reshape(ops.cast(vector, like.dtype), (1, -1, 1, 1, 1))


def _normalize(x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean) / sqrt(variance + eps), mean and biased variance; channels keep their axes."""
    mean = _channel_mean(x)
    # What rounding left in the mean is taken out by the mean of the rest.
    rest = _channel_mean(x - mean)
    centered = x - mean - rest
    variance = _channel_mean(ops.square(centered))
    return centered * ops.rsqrt(variance + eps), mean + rest, variance


def _update(moving: Tensor, batch: Tensor, momentum: Tensor, defined: Tensor) -> None:
    old = ops.cast(moving, batch.dtype)
    new = momentum * old + (1 - momentum) * ops.reshape(batch, (-1,))
    changes = ops.logical_and(defined, momentum < 1)
    ops.assign(moving, ops.cast(ops.select(ops.broadcast_to(changes, old.shape), new, old),
                                moving.dtype))


def forward_training(x, gamma, beta, moving_mean, moving_variance, settings):
    """Normalise by the batch and update the moving statistics; see `bn3d.reference`."""
    eps, momentum = settings[0], settings[1]
    wide = ops.cast(x, settings.dtype)
    normalized, mean, variance = _normalize(wide, eps)
    y = normalized * _per_channel(gamma, wide) + _per_channel(beta, wide)

    shape = x.shape
    count = ops.cast(shape[0] * shape[2] * shape[3] * shape[4], settings.dtype)
    unbiased = variance * (count / ops.maximum(count - 1, ops.ones_like(count)))
    _update(moving_mean, ops.stop_gradient(mean), momentum, count > 0)
    _update(moving_variance, ops.stop_gradient(unbiased), momentum, count > 1)
    return ops.cast(y, x.dtype)


def forward_inference(x, gamma, beta, moving_mean, moving_variance, settings):
    """Normalise by the moving statistics; see `bn3d.reference`."""
    wide = ops.cast(x, settings.dtype)
    variance = _per_channel(moving_variance, wide)
    multiplier = _per_channel(gamma, wide) * ops.rsqrt(variance + settings[0])
    y = (wide - _per_channel(moving_mean, wide)) * multiplier + _per_channel(beta, wide)
    return ops.cast(y, x.dtype)


def gradient_of_gradient_training(dy, x, gamma, settings, douts):
    """Gradients towards (dy, x, gamma) of `reference.gradient_training`, for its (dx, dgamma, dbeta).

    With h = normalised x, r = 1/sqrt(variance + eps), <.> the mean over a channel and
    (u, v, w) the incoming gradients: dx = gamma*r * (dy - <dy> - h*<dy*h>) is derived by dy,
    by h (g below), by r and by gamma; h and r are then derived by x.
    """
    wide = ops.cast(x, settings.dtype)
    dy = ops.cast(dy, settings.dtype)
    gamma_wide = _per_channel(gamma, wide)
    u = ops.cast(douts[0], settings.dtype)
    v = _per_channel(douts[1], wide)
    w = _per_channel(douts[2], wide)

    h, _, variance = _normalize(wide, settings[0])
    r = ops.rsqrt(variance + settings[0])
    mean_u, mean_uh = _channel_mean(u), _channel_mean(u * h)
    mean_dy, mean_dyh = _channel_mean(dy), _channel_mean(dy * h)

    d_dy = gamma_wide * r * (u - mean_u - h * mean_uh) + v * h + w
    g = dy * v - gamma_wide * r * (u * mean_dyh + dy * mean_uh)
    # <u * dx> / (gamma * r)
    mean_udx = _channel_mean(u * dy) - mean_u * mean_dy - mean_uh * mean_dyh
    d_x = r * (g - _channel_mean(g) - h * (_channel_mean(g * h) + gamma_wide * r * mean_udx))
    d_gamma = ops.sum(u * (dy - mean_dy - h * mean_dyh) * r, _AXES)
    return ops.cast(d_dy, x.dtype), ops.cast(d_x, x.dtype), ops.cast(d_gamma, gamma.dtype)


def gradient_of_gradient_inference(dy, x, gamma, moving_mean, moving_variance, settings, douts):
    """The same for `reference.gradient_inference`, whose statistics are constants."""
    wide = ops.cast(x, settings.dtype)
    dy = ops.cast(dy, settings.dtype)
    u = ops.cast(douts[0], settings.dtype)
    v = _per_channel(douts[1], wide)
    w = _per_channel(douts[2], wide)
    r = ops.rsqrt(_per_channel(moving_variance, wide) + settings[0])
    h = (wide - _per_channel(moving_mean, wide)) * r
    d_dy = _per_channel(gamma, wide) * r * u + v * h + w
    d_gamma = ops.sum(u * dy * r, _AXES)
    return (
        ops.cast(d_dy, x.dtype),
        ops.cast(dy * v * r, x.dtype),
        ops.cast(d_gamma, gamma.dtype),
    )


def _channel_mean(x: Tensor) -> Tensor:
    return ops.mean(x, _AXES, True)
