"""`fold` puts batch norm into the layer before it, for inference.

A layer may be folded if its output goes to the batch norm and nowhere else. Where that cannot be
proved from the source of the network's own classes, it is left.

reading.py      which layer feeds which batch norm, over the whole network
containers.py   what a SequentialCell or CellList runs
source.py       what the source of one class does with its layers, and what it hides
methods.py      that source: its methods, and which of them `construct` reaches
calls.py        `self.bn(self.conv(x))` in one `construct`, in one statement or in several
exposure.py     uses that no source shows: objects, functions and hooks that hold layers
arithmetic.py   the new weights
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mindspore import nn

from bn3d import new_style
from bn3d.cell_state import detach
from bn3d.cells import cells, check_net, forget_compiled
from bn3d.folding.arithmetic import Folded, fold_into
from bn3d.folding.reading import Pair, read_pairs

__all__ = ["FoldReport", "fold"]


@dataclass
class FoldReport:
    """What `fold` did.

    Attributes:
        folded: names of the batch norm layers that are folded, and of the layers they are in.
        left: names of the batch norm layers that were left as they are, and why.
    """

    folded: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{len(self.folded)} folded, {len(self.left)} left as they are"]
        lines += [f"left: {name}: {reason}" for name, reason in self.left.items()]
        return "\n".join(lines)


def fold(net: nn.Cell) -> FoldReport:
    """Fold every BatchNorm3d of a network into the Conv3d, Conv3dTranspose or Dense before it.

    In place, for inference, and for good: `copy.deepcopy(net)` first to train on. The weights
    of the layer before are scaled, it gets a bias, and the batch norm becomes the identity
    without parameters. The output stays the same within rounding. `mindspore.export` makes
    files of the result that load without bn3d.

    What comes before a batch norm is read from the source of `construct`, without an input:
    neighbours in a SequentialCell or in a CellList that runs as one, `self.bn(self.conv(x))`,
    or two statements one after the other. A Dense may be followed by a `reshape` to
    (-1, C, D, H, W) with known C, D, H, W. Whatever is seen elsewhere as well, or not clearly,
    is left and reported; so is what may be run unseen, because `construct` hands on `self`,
    computes the names of attributes, or a function or an object in the network holds the layer.

    Seen is the network alone: make sure that no other one shares its layers, and that nothing
    outside calls them one by one, or keeps them in a variable that `construct` uses.

    Args:
        net: the network in evaluation mode, `net.set_train(False)`.

    Returns:
        What was folded, and what not and why.

    Raises:
        TypeError: `net` is no Cell.
    """
    check_net(net)
    report = FoldReport()
    names = {id(cell): name for name, cell in cells(net)}
    pairs = read_pairs(net)
    for name, norm in list(cells(net)):
        if not isinstance(norm, new_style.STOCK):
            continue
        found = pairs.get(id(norm), "no Conv3d, Conv3dTranspose or Dense is seen right before it")
        reason = _reason_against(norm) or (found if isinstance(found, str) else None)
        if reason is None:
            reason = _fold_pair(found)
        if reason is None:
            report.folded[name] = names[id(found.producer)]
        else:
            report.left[name] = reason
    if report.folded:
        forget_compiled(net)
    return report


def _reason_against(norm: nn.Cell) -> str | None:
    bn = getattr(norm, "bn2d", None)
    if bn is None:
        return "it is a stock layer with PyTorch's arguments: bn3d.swap(net) first"
    if bn.use_batch_statistics is True:
        return "it normalises by the batch always (use_batch_statistics=True)"
    if bn.use_batch_statistics is None and bn.training:
        return "it is in training mode: net.set_train(False) first"
    return None


def _fold_pair(pair: Pair) -> str | None:
    """Fold, or say why not; nothing has changed then."""
    reason = fold_into(pair.producer, pair.norm)
    if reason is not None:
        return reason
    norm = pair.norm
    if hasattr(norm, "_forward_training"):
        detach(norm)
    norm._cells.clear()
    norm._params.clear()
    norm._recompute_cell = None  # it was among the cells
    norm.__class__ = Folded
    return None
