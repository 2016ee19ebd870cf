"""Casts and broadcasts that every compute function needs."""

import tbe.dsl as tbe
from tbe.common.utils import shape_util


def to_float32(volume):
    """All arithmetic is float32: sums of float16 overflow, bfloat16 has no vector instructions.

    The cast does more for float16: without any cast in the graph the static scheduler casts
    outputs to the dtype of an input, float32 sums to float16.
    """
    return volume if volume.dtype == "float32" else tbe.cast_to(volume, "float32")


def from_float32(volume, dtype):
    if dtype == "bfloat16":
        return tbe.round(volume, dtype)  # to nearest even, as NumPy and PyTorch narrow
    return volume if dtype == "float32" else tbe.cast_to(volume, dtype)


def spread(channel, volume):
    """Broadcast a channel vector over a volume: binary DSL functions take equal shapes only.

    In NDC1HWC0 the last block of 16 channels is padded where C is no multiple of 16. TransData
    filled the padding of x and of the vectors with zeros, so its lanes compute 0. Other values
    would do no harm: no operator mixes lanes, and the way back to NCDHW drops these.
    """
    return tbe.broadcast(channel, shape_util.shape_to_list(volume.shape))


def spread_row(channel, shape):
    """Broadcast a channel vector over one row of a volume, as a tensor that is kept on the chip.

    The two negations make it one: a broadcast alone would be read through to the vector behind
    it. They change no bit of any value, NaN and -0 included; a maximum with the smallest number
    would, and a product with 1 would be dropped.
    """
    return tbe.vmuls(tbe.vmuls(tbe.broadcast(channel, shape), -1.0), -1.0)
