"""`BatchNorm3d`, the drop-in for `mindspore.nn.BatchNorm3d`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import mindspore as ms
from mindspore import nn, ops

from bn3d.backends import threads
from bn3d.layers import arguments, child
from bn3d.layers.state import attach, fixed_settings, get_state, set_state
from bn3d.layers.torch_arguments import from_torch_style
from bn3d.mindspore_private import execution, precision
from bn3d.mindspore_private.cells import GivesChildrenValues

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["BatchNorm3d"]


class BatchNorm3d(GivesChildrenValues, nn.BatchNorm3d):
    """Batch normalisation over a volume of shape (N, C, D, H, W), a drop-in for `nn.BatchNorm3d`.

        y = (x - E[x]) / sqrt(Var[x] + eps) * gamma + beta

    with mean and (biased) variance of each channel over (N, D, H, W) while training, and the
    moving statistics otherwise. Training also updates those:
    moving = momentum * moving + (1 - momentum) * batch, the variance being the unbiased one.
    A single value per channel has no unbiased variance and leaves the moving variance as it is;
    an empty batch leaves both.

    The arguments are those of `mindspore.nn.BatchNorm3d` 2.7 to 2.10, and stay so whatever the
    installed MindSpore takes; `from_torch_args` takes PyTorch's. The parameters are
    `bn2d.gamma`, `bn2d.beta`, `bn2d.moving_mean` and `bn2d.moving_variance`, (C,) of
    `dtype`; checkpoints of the stock layer load into it and the other way round.

    Args:
        num_features: C, at least 1.
        eps: added to the variance; finite, not negative. Default: 1e-5.
        momentum: weight of the old moving statistics, 0 to 1. Default: 0.9.
        affine: whether gamma and beta are trained. Default: True.
        gamma_init, beta_init, moving_mean_init, moving_var_init: Tensor, number, str or
            Initializer, as in `nn.BatchNorm3d`.
        use_batch_statistics: True normalises by the batch and updates the moving statistics
            always, False never, None (default) in training mode only, that is after
            `set_train()`.
        dtype: of the parameters, float32 (default), float16, bfloat16 or float64.

    Inputs:
        x: Tensor (N, C, D, H, W), float32, float16, bfloat16 or float64.

    Outputs:
        Tensor with the shape and dtype of x.

    Raises:
        TypeError: an argument or x has a wrong type or dtype.
        ValueError: an argument is out of range, or x has not 5 dimensions or other than
            num_features channels.
        RuntimeError: a graph is compiled for several devices in the parallel modes
            "semi_auto_parallel" and "auto_parallel", which split operators.

    Formula: Ioffe & Szegedy, https://arxiv.org/abs/1502.03167, Algorithms 1 and 2.

    Supported Platforms:
        ``Ascend`` ``CPU``

    Examples:
        >>> layer = bn3d.BatchNorm3d(4).set_train()
        >>> layer(ops.ones((2, 4, 8, 8, 8), ms.float16)).shape
        (2, 4, 8, 8, 8)
        >>> layer.bn2d.moving_mean.asnumpy()
        array([0.1, 0.1, 0.1, 0.1], dtype=float32)
    """

    # What `bn3d.layers.state.attach` assigns, to layers with other attributes of a network's, too.
    _bn3d_forward_training: Callable[..., tuple[ms.Tensor, ...]]
    _bn3d_forward_inference: Callable[..., ms.Tensor]
    _bn3d_settings: Any
    _bn3d_settings_without_update: Any
    _bn3d_half: ms.Tensor
    _bn3d_backend: str

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.9,
        affine: bool = True,
        gamma_init: child.Init = "ones",
        beta_init: child.Init = "zeros",
        moving_mean_init: child.Init = "zeros",
        moving_var_init: child.Init = "ones",
        use_batch_statistics: bool | None = None,
        dtype: ms.Type = ms.float32,
    ) -> None:
        arguments.check(num_features, eps, momentum, affine, use_batch_statistics, dtype)
        inits = (gamma_init, beta_init, moving_mean_init, moving_var_init)
        arguments.check_inits(num_features, dtype, *inits)
        nn.Cell.__init__(self)  # not the stock one: its signature is announced to change
        self.bn2d = child.build(
            num_features,
            eps,
            momentum,
            affine,
            gamma_init,
            beta_init,
            moving_mean_init,
            moving_var_init,
            use_batch_statistics,
            dtype,
        )
        attach(self)

    @classmethod
    def from_torch_args(
        cls,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: ms.Type | None = None,
        *,
        bias: bool = True,
    ) -> Self:
        """Build a layer from the arguments of `torch.nn.BatchNorm3d`, which but for bias are
        also those of `mindspore.mint.nn.BatchNorm3d` and announced for `nn.BatchNorm3d`.

        Args:
            num_features: C, at least 1.
            eps: added to the variance. Default: 1e-5.
            momentum: weight of the *new* value in the moving statistics, 0 to 1; the
                layer's own momentum is 1 - momentum. Default: 0.1.
            affine: whether gamma and beta are trained. Default: True.
            track_running_stats: False normalises by the batch in evaluation, too
                (`use_batch_statistics=True`). Default: True.
            dtype: of the parameters; None is float32.
            bias: False: beta stays 0 and is not trained. Default: True.

        Returns:
            A layer in evaluation mode as every new Cell; PyTorch's start in training mode.

        Raises:
            TypeError, ValueError: as the class; ValueError also for momentum None with
                track_running_stats, because there is no cumulative average here.

        Supported Platforms:
            ``Ascend`` ``CPU``

        Examples:
            >>> layer = bn3d.BatchNorm3d.from_torch_args(4, momentum=0.25).set_train()
            >>> y = layer(ops.ones((2, 4, 8, 8, 8)))
            >>> layer.bn2d.moving_mean.asnumpy()
            array([0.25, 0.25, 0.25, 0.25], dtype=float32)
        """
        if not isinstance(bias, bool):
            raise TypeError(f"'bias' must be a bool, got {bias!r} ({type(bias).__name__})")
        momentum, use_batch_statistics = from_torch_style(momentum, track_running_stats)
        layer = cls(
            num_features,
            eps,
            momentum,
            affine,
            use_batch_statistics=use_batch_statistics,
            dtype=ms.float32 if dtype is None else dtype,
        )
        layer.bn2d.beta.requires_grad = affine and bias
        return layer

    def _bn3d_construct_stock(self, x: ms.Tensor) -> ms.Tensor:
        """What an export computes with: its file has to load where bn3d is not installed."""
        n, c, d, h, w = x.shape
        return self.bn2d(x.reshape(n, c, d * h, w)).reshape(n, c, d, h, w)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """Normalise x; see the class."""
        if not isinstance(x, ms.Tensor):
            arguments.refuse_input(type(x))
        bn = child.unwrapped(self)
        arguments.check_input(x.shape, x.dtype, bn.num_features)
        threads.follow()
        if execution.is_compiling():
            if execution.is_exporting():
                return self._bn3d_construct_stock(x)
            if execution.splits_batches():
                arguments.refuse_to_be_split()
            if _is_half(x.dtype) and ops.exp(self._bn3d_half).dtype == ms.float32:
                # Mixed precision at level "auto" computes exp, and BatchNorm, in float32; our
                # operators are not on its list.
                x = ops.cast(x, ms.float32)
        else:
            x = precision.as_asked(self, x)
        if bn.use_batch_statistics or (bn.use_batch_statistics is None and bn.training):
            settings = self._bn3d_settings
            if execution.is_recomputing():
                settings = self._bn3d_settings_without_update
            outputs = self._bn3d_forward_training(
                x, bn.gamma, bn.beta, bn.moving_mean, bn.moving_variance, settings
            )
            return outputs[0]
        return self._bn3d_forward_inference(
            x, bn.gamma, bn.beta, bn.moving_mean, bn.moving_variance, self._bn3d_settings
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("eps", "momentum") and "_bn3d_settings" in vars(self):
            fixed = dict(zip(("eps", "momentum"), fixed_settings(self), strict=True))[name]
            if value != fixed:
                warnings.warn(
                    f"BatchNorm3d: {name} = {value!r} changes nothing: it was fixed at {fixed!r} "
                    "when the layer was built, as in mindspore.nn.BatchNorm3d",
                    stacklevel=2,
                )
        super().__setattr__(name, value)

    def insert_child_to_cell(self, child_name: str, child_cell: nn.Cell | None) -> None:
        """Another child in the place of bn2d brings its eps and momentum with it, as in
        `nn.BatchNorm3d`; an assignment comes by here.

        Raises:
            TypeError: it is no `nn.BatchNorm2d`, which this layer computes like.
        """
        replaces = child_name == "bn2d" and "_bn3d_settings" in vars(self)
        if replaces and not isinstance(precision.unwrapped(child_cell), nn.BatchNorm2d):
            raise TypeError(
                f"'bn2d' must be a mindspore.nn.BatchNorm2d, got {type(child_cell).__name__}"
            )
        super().insert_child_to_cell(child_name, child_cell)
        if replaces:
            self._bn3d_join()

    def _bn3d_join(self) -> None:
        """Take the backend of this process, for the child as it is now."""
        attach(self)

    def extend_repr(self) -> str:
        return f"backend={self._bn3d_backend}"  # the child bn2d says the rest

    def __getstate__(self) -> dict[str, Any]:
        return get_state(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        set_state(self, state, self._bn3d_join)


@ops.constexpr
def _is_half(dtype):
    return dtype in (ms.float16, ms.bfloat16)


precision.keep_in_rewrites(BatchNorm3d)
