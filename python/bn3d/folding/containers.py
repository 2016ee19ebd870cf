"""The cells in a SequentialCell or CellList."""

from __future__ import annotations

from collections.abc import Iterator

from mindspore import nn

__all__ = ["ends", "is_container", "items", "with_items"]


def is_container(cell: nn.Cell) -> bool:
    """Whether a cell is a SequentialCell or CellList, or of a class that runs as these."""
    return any(
        isinstance(cell, kind)
        and all(
            getattr(type(cell), name, None) is getattr(kind, name, None)
            for name in ("construct", "__getitem__", "__iter__", "__len__")
        )
        for kind in (nn.SequentialCell, nn.CellList)
    )


def items(container: nn.Cell) -> list[nn.Cell]:
    """What a container runs: of a SequentialCell the `cell_list`, not its `_cells`."""
    if isinstance(container, nn.SequentialCell):
        return list(container.cell_list)
    return list(container._cells.values())


def ends(cell: nn.Cell, index: int) -> list[nn.Cell]:
    """The cell and, of SequentialCells, the first (0) or last (-1) cell in it, and so on."""
    path = [cell]
    while is_container(path[-1]) and isinstance(path[-1], nn.SequentialCell) and items(path[-1]):
        path.append(items(path[-1])[index])
    return path


def with_items(cell: nn.Cell) -> Iterator[nn.Cell]:
    """A cell, and where that is a container what it holds, and so on."""
    yield cell
    if is_container(cell):
        for item in items(cell):
            yield from with_items(item)
