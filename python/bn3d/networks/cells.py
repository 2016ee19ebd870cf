"""What the functions for whole networks begin and end with."""

from __future__ import annotations

from mindspore import nn

from bn3d.mindspore_private import graphs
from bn3d.networks.reachable import cells

__all__ = ["cells", "check_net", "forget_compiled"]


def check_net(net: object) -> None:
    """Raise TypeError for an argument 'net' that is no Cell."""
    if not isinstance(net, nn.Cell):
        raise TypeError(f"'net' must be a mindspore.nn.Cell, got {type(net)}")


def forget_compiled(net: nn.Cell) -> None:
    """Let the graphs that run these cells be compiled again.

    Those of a training step around the network, or of a function, cannot be told from others
    from here, and would go on with what the cells were. So all graphs of the process are
    dropped, but those of cells loaded from a file: they compile only once.

    Warns where MindSpore keeps graphs on disk: it takes those of an earlier run whatever the
    cells are now, so that is switched off for the rest of the process.
    """
    graphs.drop([cell for _, cell in cells(net)], _reaches_loaded)


def _reaches_loaded(value: object) -> bool:
    return any(isinstance(inner, nn.GraphCell) for _, inner in cells(value))
