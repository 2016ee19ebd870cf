"""What a `mindspore.nn.Cell` keeps of itself."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Any

from mindspore import Parameter, nn, ops

__all__ = [
    "GivesChildrenValues",
    "HasNoState",
    "child_or_none",
    "children",
    "own_parameters",
    "put_child",
    "remove_all",
    "restorer",
    "set_state_with_operators",
    "settings_of_operator",
    "state_without_operators",
    "use_twins",
]


def children(cell: nn.Cell) -> Mapping[str, nn.Cell | None]:
    """The sub-cells by name, a shared one at each of its places."""
    return cell._cells if hasattr(cell, "_cells") else cell.name_cells()


def child_or_none(cell: nn.Cell, name: str) -> nn.Cell | None:
    """The sub-cell of that name; none while a cell is unpickled."""
    return vars(cell).get("_cells", {}).get(name)


def own_parameters(cell: nn.Cell) -> dict[str, Parameter]:
    """The parameters of a cell itself, by name."""
    if hasattr(cell, "_params"):
        return {name: p for name, p in cell._params.items() if p is not None}
    return dict(cell.parameters_and_names(expand=False))


def put_child(cell: nn.Cell, name: str, child: nn.Cell, first: bool = False) -> None:
    """Make `child` a sub-cell. An assignment would rename its parameters after it."""
    cell._cells[name] = child
    if first:
        cell._cells.move_to_end(name, last=False)


def remove_all(cell: nn.Cell) -> None:
    """Take away all sub-cells and parameters, and what `Cell.recompute` kept among them."""
    cell._cells.clear()
    cell._params.clear()
    cell._recompute_cell = None


def restorer(*cells: nn.Cell) -> Callable[[], None]:
    """A function that puts back what attributes, sub-cells, parameters and operators cells have
    now.
    """
    held = [
        each for cell in cells for each in (vars(cell), cell._cells, cell._params, cell._primitives)
    ]
    before = [(each, list(each.items())) for each in held]

    def restore() -> None:
        for attributes, items in before:
            attributes.clear()
            attributes.update(items)

    return restore


def use_twins(*cells: nn.Cell) -> Callable[[], None]:
    """Let cells compute with other Parameters of the same values; returns what undoes it."""
    restore = restorer(*cells)
    for cell in cells:
        for name, p in own_parameters(cell).items():
            cell._params[name] = Parameter(p, p.name, p.requires_grad)
    return restore


class GivesChildrenValues(nn.Cell):
    """A cell whose children are never called. Parameters built under `no_init_parameters` get
    their values when their cell is first called, so the children's get them with this one's.
    """

    def _init_check(self):
        super()._init_check()
        for _, cell in self.cells_and_names():
            if cell is not self:
                cell._init_check()


class HasNoState(nn.Cell):
    """A cell whose parameters are saved and loaded as those of another, by `Cell.state_dict` and
    `Cell.load_state_dict` too, which do not ask whether they have seen a parameter before.
    """

    def state_dict(
        self, *args: Any, destination: dict[str, Any] | None = None, **_: Any
    ) -> dict[str, Any]:
        if args:  # as MindSpore allows
            destination = args[0]
        return OrderedDict() if destination is None else destination

    def _load_from_state_dict(self, state_dict, prefix, metadata, strict, missing, unexpected, _):
        unexpected += [key for key in state_dict if strict and key.startswith(prefix)]


def settings_of_operator(batch_norm: nn.Cell) -> tuple[float, float]:
    """Eps and momentum of a stock `nn.BatchNorm2d`, the weight of the new value, from the operator
    that it computes with: they were fixed when it was built.
    """
    operator = batch_norm.bn_train
    return float(operator.epsilon), float(operator.momentum)


def state_without_operators(cell: nn.Cell, made_again: Collection[str]) -> tuple[Any, dict]:
    """The state of a cell to pickle, without MindSpore's operators, which can neither be pickled
    nor copied, without the attributes `made_again`, and without the child bn2d.
    """
    base, attributes = nn.Cell.__getstate__(cell)
    left = {*made_again, "_primitives", "_compile_cache", "_cells"}
    kept = {
        name: value
        for name, value in attributes.items()
        if not isinstance(value, ops.Primitive) and name not in left
    }
    others = ((name, sub) for name, sub in attributes["_cells"].items() if name != "bn2d")
    kept["_cells"] = OrderedDict(others)
    return base, kept


def set_state_with_operators(cell: nn.Cell, state: tuple[Any, dict], operators: nn.Cell) -> None:
    """Bring a new cell into such a state, with the operators of another."""
    base, attributes = state
    made = {k: v for k, v in vars(operators).items() if isinstance(v, ops.Primitive)}
    attributes = {
        **attributes,
        **made,
        "_primitives": OrderedDict(operators._primitives),
        "_compile_cache": None,
    }
    nn.Cell.__setstate__(cell, (base, attributes))
