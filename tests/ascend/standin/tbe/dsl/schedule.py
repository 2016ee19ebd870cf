"""`auto_schedule` and `build`: which graphs the two schedulers take, and a record of builds."""

from contextlib import contextmanager
from dataclasses import dataclass

from tbe import tvm
from tbe.common.context import op_context
from tbe.errors import require
from tbe.graph import Tensor, ancestors


@dataclass(frozen=True)
class Schedule:
    scheduler: str  # "static" or "unify"
    pattern: str  # "elementwise", "tuple_reduce" or "opaque"
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Build:
    kernel_name: str
    schedule: Schedule
    inputs: tuple[Tensor, ...]


builds: list[Build] = []
# The real static scheduler declines about half of the reductions over NCDHW.
declines_reductions = [False]


@contextmanager
def compute():
    _require_context()
    yield


def _require_context():
    context = op_context.get_context()
    mode = context and context.get_op_mode()
    require(mode in ("static", "dynamic"), "E90001", "compute() is for the unify scheduler")


def auto_schedule(outs):
    assert tvm.in_target[0], "auto_schedule outside of `with tvm.target.cce()`"
    context = op_context.get_context()
    unify = context is not None and context.get_op_mode() in ("static", "dynamic")
    graph = ancestors(outs)
    kinds = [tensor.kind for tensor in graph]
    reduces = kinds.count("reduce")
    if not reduces:
        pattern = "elementwise"
    elif reduces == len(outs) == 2 and all(out.kind == "reduce" for out in outs):
        pattern = "tuple_reduce"
    else:
        pattern = "opaque"
    if not unify:
        _check_static(outs, graph, pattern)
    return Schedule("unify" if unify else "static", pattern, tuple(outs))


def _check_static(outs, graph, pattern):
    dtypes = {tensor.dtype for tensor in graph}
    if "bfloat16" in dtypes:
        raise TypeError("the static templates know no bfloat16")
    if len(dtypes) > 1 and not any(tensor.kind == "cast" for tensor in graph):
        raise AssertionError("without a cast in the graph, outputs are cast to an input's dtype")
    declined = pattern == "tuple_reduce" and declines_reductions[0]
    require(not declined, "E90001", "tuple_reduce_sum not support")


def build(sch, config_map):
    assert set(config_map) == {"name", "tensor_list"}
    tensors = config_map["tensor_list"]
    if isinstance(sch, list):
        require(len(sch) == len(tensors) == 1, "E90001", "one schedule for a known shape")
        (sch,), (tensors,) = sch, tensors
    count = len(tensors) - len(sch.outputs)
    inputs, outputs = tensors[:count], tensors[count:]
    require(tuple(outputs) == sch.outputs, "E90001", "tensor_list must end with the outputs")
    made_of = [tensor for tensor in ancestors(outputs) if tensor.kind == "placeholder"]
    require(set(made_of) == set(inputs), "E90001", "tensor_list must have the graph's inputs")
    require(not set(inputs) & set(outputs), "E90001", "an output is an input")
    builds.append(Build(config_map["name"], sch, tuple(inputs)))
