"""The child `bn2d` of a layer, which holds its parameters as that of the stock layer does.

MindSpore announces another signature, and with it other parameter names, for its constructor.
Checkpoints, and all code that reads `layer.bn2d`, should see no difference between them.
"""

from __future__ import annotations

import inspect
from typing import TypeAlias

from mindspore import Parameter, Tensor, Type, nn, ops
from mindspore.common.initializer import Initializer, initializer

from bn3d.mindspore_private import precision

__all__ = ["BatchNorm2d", "Init", "build", "unwrapped"]

# What a constructor takes as the initial values of a parameter.
Init: TypeAlias = Tensor | float | str | Initializer


def build(
    num_features: int,
    eps: float,
    momentum: float,
    affine: bool,
    gamma_init: Init,
    beta_init: Init,
    moving_mean_init: Init,
    moving_var_init: Init,
    use_batch_statistics: bool | None,
    dtype: Type,
) -> nn.BatchNorm2d:
    """The child with new parameters: a stock one while its constructor takes these arguments,
    one of ours afterwards.
    """
    if "use_batch_statistics" in inspect.signature(nn.BatchNorm2d.__init__).parameters:
        return nn.BatchNorm2d(
            num_features=num_features,
            eps=eps,
            momentum=momentum,
            affine=affine,
            gamma_init=gamma_init,
            beta_init=beta_init,
            moving_mean_init=moving_mean_init,
            moving_var_init=moving_var_init,
            use_batch_statistics=use_batch_statistics,
            dtype=dtype,
        )

    def parameter(init: Init, name: str, trained: bool) -> Parameter:
        value = initializer(init, num_features, dtype=dtype)
        return Parameter(value, name=name, requires_grad=trained)

    return BatchNorm2d(
        num_features,
        eps,
        momentum,
        use_batch_statistics,
        moving_mean=parameter(moving_mean_init, "moving_mean", False),
        moving_variance=parameter(moving_var_init, "moving_variance", False),
        gamma=parameter(gamma_init, "gamma", affine),
        beta=parameter(beta_init, "beta", affine),
    )


def unwrapped(layer: nn.Cell) -> nn.Cell:
    """The child of a layer, also where mixed precision has put a cell around it, because
    `nn.BatchNorm2d` is on its black list.
    """
    return precision.unwrapped(layer.bn2d)


class BatchNorm2d(nn.BatchNorm2d):
    """An `nn.BatchNorm2d` with today's attributes, whatever the stock constructor takes.

    Args:
        num_features, eps, momentum, use_batch_statistics: as for `bn3d.BatchNorm3d`.
        moving_mean, moving_variance, gamma, beta: Parameters or Tensors (num_features,).
    """

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float,
        use_batch_statistics: bool | None,
        *,
        moving_mean: Tensor,
        moving_variance: Tensor,
        gamma: Tensor,
        beta: Tensor,
    ) -> None:
        nn.Cell.__init__(self)
        self.num_features = num_features
        self.eps = eps
        self.momentum = 1.0 - momentum  # the weight of the new value, as in the stock layer
        self.use_batch_statistics = use_batch_statistics
        self.moving_mean = moving_mean
        self.moving_variance = moving_variance
        self.gamma = gamma
        self.beta = beta
        self.bn_train = ops.BatchNorm(is_training=True, epsilon=eps, momentum=self.momentum)
        self.bn_infer = ops.BatchNorm(is_training=False, epsilon=eps)

    def construct(self, x: Tensor) -> Tensor:
        """Normalise x (N, C, H, W) by MindSpore's own operator; exports go this way."""
        by_batch = self.use_batch_statistics
        if by_batch or (by_batch is None and self.training):
            operator = self.bn_train
        else:
            operator = self.bn_infer
        return operator(x, self.gamma, self.beta, self.moving_mean, self.moving_variance)[0]

    def extend_repr(self) -> str:
        return (
            f"num_features={self.num_features}, eps={self.eps}, momentum={1 - self.momentum}, "
            f"use_batch_statistics={self.use_batch_statistics}"
        )
