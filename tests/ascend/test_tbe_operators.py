"""The TBE sources of the four operators, on the stand-in, against the judge."""

import ast
import importlib
import inspect
from pathlib import Path

import engine
import numpy as np
import pytest
from compiling import REDUCTIONS, by_type, compiled, run
from hypothesis import given, settings
from hypothesis import strategies as st
from tbe.common import platform
from tbe.common.context import op_context
from tbe.common.register import get_operator
from tbe.dsl import schedule

from bn3d.operators import OPERATORS

SOURCES = Path(__file__).parents[2] / "op_impl/ai_core/tbe/bn3d_impl"
CASES = [
    pytest.param(operator, soc, layout, dtype, id=f"{operator.type}-{soc}-{layout}-{dtype}")
    for operator in OPERATORS
    for soc, (_, dtypes) in engine.SOCS.items()
    for layout in engine.FORMATS
    for dtype in dtypes
]
TWO_VOLUMES = [
    operator
    for operator in OPERATORS
    if [tensor.kind for tensor in operator.inputs].count("volume") == 2
]
shapes = st.tuples(
    st.integers(1, 3), st.integers(1, 35), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)
)


@pytest.fixture(autouse=True)
def _fresh():
    schedule.declines_reductions[0] = False
    platform.set_soc("Ascend910A")
    yield
    schedule.declines_reductions[0] = False


@pytest.mark.parametrize(("operator", "soc", "layout", "dtype"), CASES)
@settings(max_examples=8, derandomize=True, deadline=None, database=None)
@given(shape=shapes, mean_over_std=st.sampled_from([0.0, 2.0, 1000.0]), seed=st.integers(0, 99))
def test_agrees_with_the_judge(operator, soc, layout, dtype, shape, mean_over_std, seed):
    arguments = engine.descriptions(operator, shape, layout, dtype)
    build, _ = compiled(operator, soc, arguments)
    inputs = engine.random_inputs(operator, shape, dtype, mean_over_std, seed)
    outputs, raw = run(operator, build, inputs, shape, layout)
    volumes = operator.outputs[0].kind == "volume"
    tolerance = engine.TOLERANCE[dtype if volumes else "float32"]
    assert max(engine.errors(operator, inputs, outputs)) < tolerance
    assert {tensor.dtype for tensor in build.schedule.outputs} == {dtype if volumes else "float32"}
    assert all(np.isfinite(array).all() for array in raw)


@by_type
def test_results_that_are_exactly_zero(operator):
    shape = (2, 3, 1, 2, 3)
    arguments = engine.descriptions(operator, shape, "NCDHW", "float32")
    build, _ = compiled(operator, "Ascend910A", arguments)
    inputs = engine.random_inputs(operator, shape, "float32", 2.0, 0)
    inputs = {name: np.zeros_like(array) for name, array in inputs.items()}
    outputs, _ = run(operator, build, inputs, shape, "NCDHW")
    assert engine.errors(operator, inputs, outputs) == [0.0] * len(outputs)
    for wrong in (1e-30, np.nan):
        outputs[-1].flat[0] = wrong
        assert max(engine.errors(operator, inputs, outputs)) > 1e6


@pytest.mark.parametrize(("operator", "soc", "layout", "dtype"), CASES)
def test_each_soc_gets_its_scheduler_and_never_an_opaque_pattern(operator, soc, layout, dtype):
    arguments = engine.descriptions(operator, (2, 20, 3, 4, 5), layout, dtype)
    build, _ = compiled(operator, soc, arguments)
    assert build.schedule.scheduler == ("static" if soc == "Ascend910A" else "unify")
    reduces = operator.outputs[0].kind == "channel"
    assert build.schedule.pattern == ("tuple_reduce" if reduces else "elementwise")
    assert [tensor.name for tensor in build.inputs] == [tensor.name for tensor in operator.inputs]


@pytest.mark.parametrize("layout", ["NCDHW", "ND"])
@by_type
def test_ncdhw_avoids_the_rank_of_the_built_in_templates(operator, layout):
    """At rank 5 they expect NC1HWC0 and reduce other axes."""
    for shape in ((2, 20, 3, 4, 5), (64, 20, 1, 1, 1), (1, 1, 60, 64, 64)):
        arguments = engine.descriptions(operator, shape, layout, "float16")
        build, _ = compiled(operator, "Ascend910A", arguments)
        assert all(len(tensor.shape) < 5 for tensor in build.inputs)


@pytest.mark.parametrize("operator", REDUCTIONS, ids=lambda operator: operator.type)
def test_what_the_static_scheduler_declines_the_unify_one_takes(operator):
    schedule.declines_reductions[0] = True
    shape = (2, 5, 3, 4, 5)
    arguments = engine.descriptions(operator, shape, "NCDHW", "float16")
    build, context = compiled(operator, "Ascend910A", arguments)
    assert build.schedule.scheduler == "unify"
    assert context.get_op_mode() == "static"  # the engine's own context, with the build's results
    inputs = engine.random_inputs(operator, shape, "float16", 2.0, 0)
    outputs, _ = run(operator, build, inputs, shape, "NCDHW")
    assert max(engine.errors(operator, inputs, outputs)) < 1e-6


@pytest.mark.parametrize("operator", REDUCTIONS, ids=lambda operator: operator.type)
def test_declined_without_a_context_of_the_engine(operator):
    schedule.declines_reductions[0] = True
    module = importlib.import_module(f"bn3d_impl.{operator.module}")
    getattr(module, operator.module)(
        *engine.descriptions(operator, (2, 5, 3, 4, 5), "NCDHW", "float16")
    )
    build = schedule.builds.pop()
    assert (build.kernel_name, build.schedule.scheduler) == (operator.module, "unify")
    assert op_context.get_context() is None


@by_type
def test_the_static_entry_obeys_a_context_for_the_unify_scheduler(operator):
    """opc, the offline compiler, calls it on every SoC."""
    platform.set_soc("Ascend910B1")
    module = importlib.import_module(f"bn3d_impl.{operator.module}")
    with op_context.OpContext("static"):
        getattr(module, operator.module)(
            *engine.descriptions(operator, (2, 20, 3, 4, 5), "NCDHW", "bfloat16")
        )
    assert schedule.builds.pop().schedule.scheduler == "unify"


@by_type
def test_bfloat16_never_meets_the_static_scheduler(operator):
    """OP_DYNAMIC_COMPILE_STATIC=false sends ascend910b to the static entry."""
    arguments = engine.descriptions(operator, (2, 20, 3, 4, 5), "NDC1HWC0", "bfloat16")
    build, _ = compiled(operator, "Ascend910B1", arguments, mode="pre-static")
    assert build.schedule.scheduler == "unify"


@pytest.mark.parametrize("mode", ["pre-static", "dynamic"])
@by_type
def test_unknown_dimensions_reach_the_unify_scheduler_with_open_ranges(operator, mode, monkeypatch):
    seen = []

    def classify(ins, *_):
        seen.extend(tensor for tensor in ins if isinstance(tensor, dict))
        return []

    monkeypatch.setattr("tbe.dsl.classify", classify)
    monkeypatch.setattr("tbe.dsl.build", lambda *_: None)
    arguments = engine.descriptions(operator, (2, 20, 3, 4, 5), "NCDHW", "float16")
    arguments[0]["shape"] = [-1, 20, 3, -1, 5]
    module = importlib.import_module(engine.module_name(operator, mode))
    with op_context.OpContext(mode) as context:
        getattr(module, operator.module)(*arguments)
    assert context.get_op_mode() == "dynamic"
    volumes = [tensor.kind == "volume" for tensor in operator.inputs]
    open_, one = (1, None), (1, 1)
    for tensor, volume in zip(seen, volumes, strict=True):
        assert tensor["shape"] == ([-1, 20, 3, -1, 5] if volume else [1, 20, 1, 1, 1])
        assert tensor["range"] == (
            [open_, (20, 20), (3, 3), open_, (5, 5)] if volume else [one, (20, 20), one, one, one]
        )


@by_type
def test_padding_lanes_stay_zero_and_never_reach_a_channel(operator):
    shape, layout = (2, 19, 2, 3, 3), "NDC1HWC0"
    arguments = engine.descriptions(operator, shape, layout, "float32")
    build, _ = compiled(operator, "Ascend910A", arguments)
    inputs = engine.random_inputs(operator, shape, "float32", 2.0, 0)
    zeros, raw = run(operator, build, inputs, shape, layout)
    blocks = [engine.volume_shape(shape, layout), engine.channel_shape(shape[1], layout)]
    kind = blocks[operator.outputs[0].kind == "channel"]
    assert not any(array.reshape(kind)[:, :, -1, ..., 3:].any() for array in raw)
    garbage, _ = run(operator, build, inputs, shape, layout, padding=1e30)
    for clean, dirty in zip(zeros, garbage, strict=True):
        np.testing.assert_array_equal(clean, dirty)


@by_type
def test_the_engine_s_descriptions_are_not_changed(operator):
    for soc in engine.SOCS:
        arguments = engine.descriptions(operator, (2, 20, 3, 4, 5), "ND", "float16")
        compiled(operator, soc, arguments)
        assert arguments == engine.descriptions(operator, (2, 20, 3, 4, 5), "ND", "float16")


@by_type
def test_signature_is_that_of_the_table(operator):
    module = importlib.import_module(f"bn3d_impl.{operator.module}")
    parameters = inspect.signature(getattr(module, operator.module)).parameters
    tensors = operator.inputs + operator.outputs
    assert list(parameters) == [*(tensor.name for tensor in tensors), "kernel_name"]
    assert parameters["kernel_name"].default == operator.module


@by_type
def test_dynamic_entry_is_registered_by_type(operator):
    module = importlib.import_module(f"bn3d_impl.dynamic.{operator.module}")
    assert get_operator(operator.type) is getattr(module, operator.module)


@pytest.mark.parametrize("path", sorted(SOURCES.rglob("*.py")), ids=lambda path: path.name)
def test_imports_only_names_that_every_cann_has(path):
    allowed = {"functools", "operator", "typing", "tbe", "tbe.dsl"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= allowed
        elif isinstance(node, ast.ImportFrom) and not node.level:
            assert node.module in allowed or node.module.startswith("tbe.common.")


def _changed(**changes):
    return lambda description: description.update(changes)


REJECTED = {
    "dtype": (_changed(dtype="int32"), "be float16 or float32 on this SoC, got int32"),
    "bfloat16": (_changed(dtype="bfloat16"), "float16 or float32 on this SoC, got bfloat16"),
    "format": (_changed(format="NDHWC"), "one of the formats NDC1HWC0, NCDHW, ND, got NDHWC"),
    "rank": (_changed(shape=[2, 20, 4, 5]), r"have 5 dimensions in NCDHW, got \[2, 20, 4"),
    "rank 6": (_changed(format="NDC1HWC0"), "have 6 dimensions in NDC1HWC0"),
    "empty": (_changed(shape=[0, 20, 3, 4, 5]), "not be empty"),
    "channels": (_changed(shape=[21]), r"hold 20 values, one a channel.*got \[21\]"),
    "vector": (_changed(dtype="float16"), "be float32, got float16"),
    "no shape": (lambda description: description.pop("shape"), "lacks"),
}


VECTOR_REASONS = ("channels", "vector")


@pytest.mark.parametrize("reason", REJECTED)
@by_type
def test_rejected_with_the_reason(operator, reason):
    change, message = REJECTED[reason]
    arguments = engine.descriptions(operator, (2, 20, 3, 4, 5), "NCDHW", "float16")
    index = len(operator.inputs) - 1 if reason in VECTOR_REASONS else 0
    change(arguments[index])
    if reason != "no shape":
        message = f"bn3d: {operator.inputs[index].name} must .*{message}"
    with pytest.raises(RuntimeError, match=message):
        compiled(operator, "Ascend910A", arguments)
    assert not schedule.builds


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [2, 20, 3, 4, 6]}, r"x must have dy's shape \[2, 20, 3, 4, 5\], got"),
        ({"dtype": "float32"}, "x must have dy's dtype float16, got float32"),
        ({"format": "ND"}, "x must have dy's format NCDHW, got ND"),
    ],
)
@pytest.mark.parametrize("operator", TWO_VOLUMES, ids=lambda operator: operator.type)
def test_both_volumes_of_a_gradient_must_be_alike(operator, change, message):
    arguments = engine.descriptions(operator, (2, 20, 3, 4, 5), "NCDHW", "float16")
    arguments[1].update(change)
    with pytest.raises(RuntimeError, match=message):
        compiled(operator, "Ascend910A", arguments)
