"""How axes are folded for the static scheduler, and a vector spread over one row of them."""

import math

import engine
import numpy as np
import pytest
from bn3d_impl import folding
from bn3d_impl.arithmetic import spread_row
from compiling import REDUCTIONS, by_type, compiled, run
from hypothesis import given, settings
from hypothesis import strategies as st
from tbe.common import platform
from tbe.dsl import schedule
from tbe.graph import evaluate
from tbe.tvm import placeholder

# A volume of each kind that is folded in a way of its own: what is told apart, the shape, and the
# folded shape for an operator that applies and for one that reduces.
NDC1HWC0 = {
    "few samples": ((2, 20, 3, 4, 5), [6, 2, 4, 5, 16], [6, 2, 5, 4, 16]),
    "many small samples": ((33, 20, 4, 2, 4), [132, 2, 2, 4, 16], [132, 2, 2, 4, 16]),
    "rows that would idle cores": ((1, 20, 3, 5, 7), [3, 2, 5, 7, 16], [3, 2, 35, 16]),
    "a prime area": ((2, 20, 3, 7, 1), [6, 2, 7, 16], [6, 2, 1, 7, 16]),
    "a small area": ((3, 20, 2, 2, 2), [6, 2, 4, 16], [6, 2, 1, 4, 16]),
    "up to 16 channels": ((2, 16, 3, 4, 5), [1, 1, 30, 4, 16], [6, 1, 5, 4, 16]),
    "up to 16 channels, a share with long divisors in another row only": (
        (1, 16, 10, 60, 60),
        [1, 1, 7200, 5, 16],
        [10, 1, 900, 4, 16],
    ),
    "up to 16 channels, a share without long divisors": (
        (1, 16, 5, 71, 127),
        [9017, 5, 16],
        [9017, 5, 16],
    ),
    "channels that split badly": (
        (2, 480, 4, 2, 4),
        [8, 6, 5, 2, 4, 16],
        [8, 30, 2, 4, 16],
    ),
    "nothing but channels": ((64, 20, 2, 1, 1), [128, 32], [64, 2, 32]),
    "many of nothing but channels": ((512, 20, 2, 1, 1), [256, 4, 32], [64, 16, 32]),
    "few of nothing but channels": ((3, 20, 2, 1, 1), [6, 32], [6, 32]),
    "few channels and nothing else": ((64, 16, 4, 1, 1), [1, 1, 64, 4, 16], [64, 4, 16]),
    "one value a channel": ((1, 16, 1, 1, 1), [1, 1, 1, 16], [1, 1, 1, 16]),
}
NCDHW = {
    "any": ((2, 20, 3, 4, 5), [2, 20, 60], [2, 20, 60]),
    "nothing but channels": ((64, 20, 1, 1, 1), [64, 20], [64, 20]),
    "many of nothing but channels": ((512, 16, 1, 1, 1), [128, 4, 16], [128, 4, 16]),
    "channels that split badly": ((6, 192, 1, 3, 3), [6, 8, 24, 9], [6, 192, 9]),
    "short rows": ((130, 5, 2, 2, 2), [130, 5, 8], [130, 5, 8]),
    "tiles that overlap": ((1, 1, 60, 64, 64), [1, 1, 245760], [1, 1, 40, 6144]),
}
KINDS = [
    pytest.param(layout, *kinds[kind], id=f"{layout}: {kind}")
    for layout, kinds in {"NDC1HWC0": NDC1HWC0, "NCDHW": NCDHW}.items()
    for kind in kinds
]


@pytest.fixture(autouse=True)
def _fresh():
    platform.set_soc("Ascend910A")
    yield
    schedule.declines_reductions[0] = False


@pytest.mark.parametrize(("layout", "shape", "applied", "reduced"), KINDS)
@by_type
def test_folded_and_right(operator, layout, shape, applied, reduced):
    arguments = engine.descriptions(operator, shape, layout, "float32")
    build, _ = compiled(operator, "Ascend910A", arguments)
    expected = reduced if operator in REDUCTIONS else applied
    if operator.type == "Bn3dReduce" and shape == NCDHW["tiles that overlap"][0]:
        expected = applied  # its tile is another, and covers a core's part
    assert list(build.inputs[0].shape) == expected
    inputs = engine.random_inputs(operator, shape, "float32", 1000.0, 0)
    outputs, _ = run(operator, build, inputs, shape, layout)
    assert max(engine.errors(operator, inputs, outputs)) < engine.TOLERANCE["float32"]


extents = st.integers(1, 70)


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(st.tuples(st.integers(1, 40), st.integers(1, 70), extents, extents, extents))
def test_a_folding_keeps_what_it_folds(shape):
    n, c, d, h, w = shape
    whole = {
        "NDC1HWC0": [n, d, -(-c // 16), h, w, 16],
        "NCDHW": [n, c, d, h, w],
    }
    for layout, sizes in whole.items():
        for volumes, reduces in ((1, False), (2, False), (1, True), (2, True)):
            folded = folding.foldings({"format": layout, "shape": sizes}, volumes, reduces)
            for each in folded:
                channels = math.prod(sizes[2::3]) if layout == "NDC1HWC0" else c
                assert math.prod(each.volume) == math.prod(sizes)
                assert math.prod(each.channel) == channels
                for vector in (each.channel, each.row or each.channel):
                    pairs = zip(vector, each.volume, strict=True)
                    assert all(size in (1, full) for size, full in pairs)
                kept = [a for a, size in enumerate(each.channel) if size > 1]
                assert not set(each.axes) & set(kept)
                last = len(each.volume) - 1
                assert last not in each.axes or each.volume[last] > 1  # bursts of one element


@pytest.mark.parametrize("operator", REDUCTIONS[1:], ids=lambda operator: operator.type)
def test_where_a_folding_is_declined_the_next_is_tried(operator, monkeypatch):
    seen = []

    def auto_schedule(outs, original=schedule.auto_schedule):
        seen.append(list(outs[0].sources[0].shape))
        if len(seen) == 1:
            raise RuntimeError({"errCode": "E90001"}, "tuple_reduce_sum not support")
        return original(outs)

    monkeypatch.setattr("tbe.dsl.auto_schedule", auto_schedule)
    arguments = engine.descriptions(operator, (1, 1, 60, 64, 64), "NCDHW", "float16")
    build, _ = compiled(operator, "Ascend910A", arguments)
    assert seen == [[1, 1, 40, 6144], [1, 1, 245760]]
    assert build.schedule.scheduler == "static"


def test_a_spread_row_has_every_bit_of_the_vector():
    special = [np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-45, -3.4028235e38, 1.1]
    vector = placeholder([1, 1, 1, 1, len(special)], "float32")
    row = spread_row(vector, [1, 1, 1, 4, len(special)])
    values = np.array(special, np.float32).reshape(vector.shape)
    (spread,) = evaluate([row], {vector: values})
    assert spread.shape == row.shape
    expected = np.broadcast_to(values, row.shape).copy().view(np.uint32)
    np.testing.assert_array_equal(spread.view(np.uint32), expected)
