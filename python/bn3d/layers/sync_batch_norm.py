"""`SyncBatchNorm3d`: `BatchNorm3d` whose batch spans devices."""

from __future__ import annotations

from typing import Any

import mindspore as ms

from bn3d.backends import process_groups as groups
from bn3d.layers import child
from bn3d.layers.batch_norm import BatchNorm3d
from bn3d.layers.state import attach, attach_later

__all__ = ["SyncBatchNorm3d"]


class SyncBatchNorm3d(BatchNorm3d):
    """`BatchNorm3d` over the batches of all devices together, what `nn.SyncBatchNorm` is in 2-D.

    Each device holds (N, C, D, H, W) of its own; N, D, H and W may differ and N may be 0. Mean
    and variance are those of all values of a channel on all devices of a group, each value
    counting the same. Everything else is as in `BatchNorm3d`: arguments, parameter names,
    checkpoints, inference, which needs no communication.

    The gradients of gamma and beta are the sums over the values of this device: data parallel
    training averages them over the devices with those of all other parameters.

    An unpickled layer creates the group of its ranks, if it does not exist yet, when it is first
    called in training; until then it waits for nobody.

    Every device of a group has to call the layer in training, and its gradient, equally often:
    one that does not leaves the others waiting. One process alone computes as `BatchNorm3d`
    does and communicates nothing, whether or not `mindspore.communication` is initialised.

    Args:
        num_features, eps, momentum, affine, use_batch_statistics, dtype: see `BatchNorm3d`.
        gamma_init, beta_init, moving_mean_init, moving_var_init: see `BatchNorm3d`.
        process_groups: lists of ranks, each a group that shares its statistics, such as
            [[0, 1], [2, 3]]; a rank in none of them is alone. None (default): all devices.

    Inputs, Outputs: see `BatchNorm3d`.

    Raises:
        TypeError: `process_groups` is no list of lists of ints; see also `BatchNorm3d`.
        ValueError: a rank in `process_groups` is there twice or does not exist; see also
            `BatchNorm3d`.
        RuntimeError: several processes were started, and `mindspore.communication.init()` was
            not called before the layer was built.

    Communication and cost: docs/sync.md.

    Supported Platforms:
        ``Ascend`` ``CPU``

    Examples:
        >>> layer = bn3d.SyncBatchNorm3d(4).set_train()  # alone it computes as BatchNorm3d
        >>> layer(ops.ones((2, 4, 8, 8, 8))).shape
        (2, 4, 8, 8, 8)
    """

    process_groups: groups.ProcessGroups = None

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
        process_groups: groups.ProcessGroups = None,
        dtype: ms.Type = ms.float32,
    ) -> None:
        super().__init__(
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
        self.process_groups = process_groups
        # Last: it may create a group, which waits for the other ranks.
        attach(self, groups.find(process_groups))

    def __getattr__(self, name: str) -> Any:
        if name == "_bn3d_forward_training":  # a copy that has not joined its group yet
            bn = child.unwrapped(self)
            if not (bn.use_batch_statistics or (bn.use_batch_statistics is None and bn.training)):
                # To a graph of inference, which does not call it.
                return self._bn3d_forward_inference
            attach(self, groups.find(self.process_groups))
            return self._bn3d_forward_training
        return super().__getattr__(name)

    def _bn3d_join(self) -> None:
        """Take part in a group that exists; creating one would wait for ranks that may have no
        copy of this layer.
        """
        try:
            attach(self, groups.find(self.process_groups, create=False))
        except groups.GroupMissingError:
            attach_later(self)
