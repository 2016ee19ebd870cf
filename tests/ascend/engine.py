"""An operator called as CANN's engine calls it, and its result held against the judge.

For the stand-in (tests) and for the real front end (scripts/check_dsl.py) alike: descriptions
of tensors, the layouts of their data, random data, and the error of a result.
"""

from __future__ import annotations

import numpy as np
from rounding import rounded

from bn3d import reference
from bn3d.operators import Operator

C0 = 16
FORMATS = ("NDC1HWC0", "NCDHW", "ND")
# What a SoC compiles, and the context its static shapes are compiled in.
SOCS = {
    "Ascend910A": ("pre-static", ("float16", "float32")),
    "Ascend910B1": ("static", ("float16", "float32", "bfloat16")),
    "Ascend910_9391": ("static", ("float16", "float32", "bfloat16")),
}
# One rounding of the result, relative to its largest value. Statistics are always float32.
TOLERANCE = {"float32": 1e-6, "float16": 2.0**-11 + 1e-6, "bfloat16": 2.0**-8 + 1e-6}
SMALLEST = np.finfo(np.float32).tiny  # normal number


def module_name(operator: Operator, mode: str) -> str:
    return f"bn3d_impl.{'' if mode == 'pre-static' else 'dynamic.'}{operator.module}"


def descriptions(operator: Operator, shape, layout: str, dtype: str) -> list[dict]:
    """Of the inputs, then of the outputs, for a volume of `shape` (N, C, D, H, W)."""
    volume = _describe(shape, volume_shape(shape, layout), layout, dtype)
    channel = _describe(shape[1:2], channel_shape(shape[1], layout), layout, "float32")
    tensors = operator.inputs + operator.outputs
    return [dict(volume if tensor.kind == "volume" else channel) for tensor in tensors]


def _describe(ori_shape, shape, layout, dtype):
    origin = "ND" if layout == "ND" else "NCDHW"
    return {
        "shape": list(shape),
        "ori_shape": list(ori_shape),
        "format": layout,
        "ori_format": origin,
        "dtype": dtype,
    }


def volume_shape(shape, layout):
    n, c, d, h, w = shape
    return (n, d, -(-c // C0), h, w, C0) if layout == "NDC1HWC0" else tuple(shape)


def channel_shape(channels, layout):
    return (1, 1, -(-channels // C0), 1, 1, C0) if layout == "NDC1HWC0" else (channels,)


def pack(array, layout, padding=0.0):
    """(N, C, D, H, W) or (C,) in the engine's layout; the real TransData pads with zeros."""
    if layout != "NDC1HWC0":
        return array
    if array.ndim == 1:
        return pack(array.reshape(1, -1, 1, 1, 1), layout, padding)
    n, c, d, h, w = array.shape
    blocks = -(-c // C0)
    padded = np.full((n, blocks * C0, d, h, w), padding, array.dtype)
    padded[:, :c] = array
    return padded.reshape(n, blocks, C0, d, h, w).transpose(0, 3, 1, 4, 5, 2)


def unpack(array, kind, shape, layout):
    """The way back, from any shape of as many elements."""
    n, c, d, h, w = shape
    if kind == "channel":
        return np.reshape(array, -1)[:c]
    if layout != "NDC1HWC0":
        return np.reshape(array, shape)
    blocks = np.reshape(array, volume_shape(shape, layout)).transpose(0, 2, 5, 1, 3, 4)
    return blocks.reshape(n, -1, d, h, w)[:, :c]


def random_inputs(operator: Operator, shape, dtype: str, mean_over_std: float, seed: int):
    """{name: array}; x has the given mean/std, and a vector shift or mean is its mean."""
    rng = np.random.default_rng(seed)
    channels = shape[1]
    std = rng.uniform(0.5, 2.0, (channels, 1, 1, 1))
    inputs = {}
    for tensor in operator.inputs:
        if tensor.kind == "channel":
            sign = rng.choice([-1, 1], channels)
            values = (sign * rng.uniform(0.5, 2.0, channels)).astype(np.float32)
        else:
            values = rng.standard_normal(shape)
            if tensor.name == "x":
                values = (values + mean_over_std) * std
            values = rounded(values.astype(np.float32), dtype)
        inputs[tensor.name] = values
    for center in inputs.keys() & {"shift", "mean"}:
        inputs[center] = inputs["x"].mean((0, 2, 3, 4), dtype=np.float64).astype(np.float32)
    return inputs


def judge(operator: Operator, inputs) -> list[np.ndarray]:
    result = getattr(reference, operator.module.removeprefix("bn3d_"))(*inputs.values())
    return list(result) if isinstance(result, tuple) else [result]


def errors(operator: Operator, inputs, outputs) -> list[float]:
    """The largest error of each output, relative to its scale.

    The scale of a volume is its largest value, that of a sum the sum of its terms' absolute
    values: what the rounding of a sum is proportional to, however much its terms cancel. Neither
    is below float32's smallest normal number. A NaN is off by infinity.
    """
    expected = judge(operator, inputs)
    if operator.outputs[0].kind == "volume":
        scales = [np.maximum(np.abs(value).max(), SMALLEST) for value in expected]
    else:
        scales = sums_of_absolute_terms(inputs)
    return [
        float(np.nan_to_num(np.abs(np.asarray(got, np.float64) - want) / scale, nan=np.inf).max())
        for got, want, scale in zip(outputs, expected, scales, strict=True)
    ]


def sums_of_absolute_terms(inputs):
    center = inputs["shift"] if "shift" in inputs else inputs["mean"]
    centered = np.abs(inputs["x"].astype(np.float64) - center.reshape(1, -1, 1, 1, 1))
    if "dy" in inputs:
        dy = np.abs(inputs["dy"].astype(np.float64))
        terms = dy, dy * centered
    else:
        terms = centered, centered**2
    return [np.maximum(term.sum((0, 2, 3, 4)), SMALLEST) for term in terms]
