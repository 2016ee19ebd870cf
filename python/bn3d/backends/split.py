"""Training, inference and both gradients from the four operators of `bn3d.operators`.

    forward:   reduce(x, shift), then apply(x, mean, multiplier, offset)
    backward:  grad_reduce(dy, x, mean), then grad_apply(dy, x, mean, a, b, c)

A batch without values calls none of them, and takes part in what a group computes: the operators
of Ascend refuse it, and MindSpore does nothing in a compiled function that gets it. Volumes that
the operators fail at are computed with those of `bn3d.backends.composed`; see
`bn3d.backends.fallback`.

Between them is float32 arithmetic over (C,) vectors with MindSpore's operators. Nothing is
differentiated through: that would read the volumes more often.

The mean of a batch is `mean + rest`, two float32 vectors. One alone would be off by up to
6e-8 * |mean|, at mean/std = 1e4 by 6e-4 standard deviations. x - mean is exact near the mean,
and the rest is folded into the vectors of the second operator.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import NamedTuple

import mindspore as ms
from mindspore import Tensor, ops

from bn3d.backends import composed, fallback
from bn3d.backends.backend import Operators
from bn3d.backends.composed import is_empty
from bn3d.backends.split_cells import (
    NO_VALUES,
    Group,
    Inference,
    Training,
    at_least_one,
    at_most_one,
    float32,
)
from bn3d.mindspore_private.execution import is_compiling, is_recording
from bn3d.mindspore_private.precision import unmixed

__all__ = ["REDUCTIONS_VARIABLE", "Split", "build", "settings"]

REDUCTIONS_VARIABLE = "BN3D_REDUCTIONS"


class Split(NamedTuple):
    """The two functions of a backend, see `bn3d.backends`."""

    forward_training: Callable
    forward_inference: Callable


def settings(eps: float, momentum: float) -> tuple[float, float, int]:
    """Return (eps, momentum, reductions) as the functions of `build` take them.

    The environment variable BN3D_REDUCTIONS says how often a training step reduces a batch:
    1 or 2, the default. Once is exact as long as the moving mean, the shift, is within some
    standard deviations of the batch's mean. The second time is shifted by the mean of the
    first and exact always; it reads the volume once more.

    Raises:
        ValueError: BN3D_REDUCTIONS has another value.
    """
    reductions = os.environ.get(REDUCTIONS_VARIABLE, "") or "2"
    if reductions not in ("1", "2"):
        raise ValueError(f"{REDUCTIONS_VARIABLE} must be 1 or 2, got {reductions!r}")
    return eps, momentum, int(reductions)


def build(
    operators: Operators,
    group: Group | None = None,
    compiled: Callable[[Callable], Callable] | None = None,
    dtypes: Collection[str] | None = None,
    probed: bool = False,
) -> Split:
    """A backend's `forward_training` and `forward_inference` from the four operators.

    Args:
        operators: volumes in, float32 (C,) vectors in and out.
        group: asked once in each direction, after the last reduction. Default: this device
            alone.
        compiled: wraps what calls the operators, where nothing compiles it anyway, that is in
            PyNative mode; such as `mindspore.jit`.
        dtypes: names of those of volumes that the operators take; the others are computed in
            float32. Default: all.
        probed: whether the operators may fail for some volumes, so that they have to be tried.
    """
    training, inference = Training(operators, group), Inference(operators)
    of_nothing, inference_of_nothing = Training(NO_VALUES, group), Inference(NO_VALUES)
    others = composed.BACKEND.operators
    by_others, inference_by_others = Training(others, group), Inference(others)
    is_refused = fallback.build(operators) if probed else _never

    def normalize_by_batch(x, gamma, beta, shift, eps, reductions):
        return training(x, gamma, beta, shift, eps, reductions)

    def normalize_by_constants(x, gamma, beta, mean, variance, eps):
        return inference(x, gamma, beta, mean, variance, eps)

    if compiled is not None:
        normalize_by_batch = _unless_compiling(compiled, normalize_by_batch)
        normalize_by_constants = _unless_compiling(compiled, normalize_by_constants)

    kept = None if dtypes is None else tuple(getattr(ms, name) for name in dtypes)

    def taken(x):
        return x if kept is None or x.dtype in kept else ops.cast(x, ms.float32)

    def forward_training(
        x: Tensor,
        gamma: Tensor,
        beta: Tensor,
        moving_mean: Tensor,
        moving_variance: Tensor,
        settings: tuple[float, float, int],
    ) -> tuple[Tensor, ...]:
        """(y,), normalised by the batch; updates the moving statistics. See `bn3d.reference`."""
        eps, momentum, reductions = settings
        volume = taken(x)
        normalize = normalize_by_batch
        if is_empty(x.shape):
            normalize = of_nothing
        elif is_refused(x.shape, volume.dtype):
            normalize = by_others
        y, mean, rest, variance, _, count, _ = normalize(
            volume, _as_it_is(gamma), float32(beta), float32(moving_mean), eps, reductions
        )
        if momentum < 1:
            spare = at_least_one(count) - 1
            # Weights of 0 where there is no value, and where there is no second one.
            _update(moving_mean, mean + rest, (1 - momentum) * at_most_one(count))
            unbiased = variance * (count / at_least_one(spare))
            _update(moving_variance, unbiased, (1 - momentum) * at_most_one(spare))
        return (ops.cast(y, x.dtype),)

    def forward_inference(
        x: Tensor,
        gamma: Tensor,
        beta: Tensor,
        moving_mean: Tensor,
        moving_variance: Tensor,
        settings: tuple[float, float, int],
    ) -> Tensor:
        """y, normalised by the moving statistics. See `bn3d.reference`."""
        mean, variance = _as_it_is(moving_mean), _as_it_is(moving_variance)
        volume = taken(x)
        normalize = normalize_by_constants
        if is_empty(x.shape):
            normalize = inference_of_nothing
        elif is_refused(x.shape, volume.dtype):
            normalize = inference_by_others
        y = normalize(volume, _as_it_is(gamma), float32(beta), mean, variance, settings[0])
        return ops.cast(y, x.dtype)

    return Split(unmixed(forward_training), unmixed(forward_inference))


def _as_it_is(parameter):
    """In float32; a copy where PyNative mode remembers it for a gradient, by reference, and an
    assignment to the parameter in between would change it.
    """
    return float32(ops.concat((parameter,)) if is_recording() else parameter)


@ops.constexpr(check=False)
def _never(shape, dtype):
    return False


def _unless_compiling(compiled, function):
    wrapped = compiled(function)

    def either(*arguments):
        return function(*arguments) if is_compiling() else wrapped(*arguments)

    return either


def _update(moving, batch, weight):
    new = float32(moving) * (1 - weight) + batch * weight
    ops.assign(moving, ops.cast(ops.stop_gradient(new), moving.dtype))
