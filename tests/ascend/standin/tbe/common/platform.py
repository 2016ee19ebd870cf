"""Which SoC compiles, and what it computes."""

FLOATS = {"float16", "float32"}
NUMBERS = FLOATS | {"int32", "int64"}

# dtypes by function, alike on every Ascend 910 but for the entries of NEW_910
DTYPES = {
    **dict.fromkeys(("vadd", "vsub", "vmul", "vmax", "vmin", "vadds", "vmuls"), NUMBERS),
    **dict.fromkeys(("vmaxs", "vmins"), FLOATS | {"int32"}),
    **dict.fromkeys(("vdiv", "vabs", "vexp", "vlog", "vsqrt", "vrsqrt", "vrec"), FLOATS),
    "vrelu": {"float16"},
    "broadcast": NUMBERS | {"int16", "int8", "uint8"},
    "reduce_sum": NUMBERS,
    "tuple_sum": FLOATS | {"int32"},
    "bfloat16": set(),
}
NEW_910 = {
    "vrelu": FLOATS,
    "broadcast": DTYPES["broadcast"] | {"bfloat16"},
    "reduce_sum": NUMBERS | {"int16"},
    "bfloat16": {"bfloat16"},
}
SOCS = {"Ascend910A": {}, "Ascend910B1": NEW_910, "Ascend910_9391": NEW_910}

_current = ["Ascend910A"]


def set_soc(name):
    """Of the stand-in only."""
    assert name in SOCS
    _current[0] = name


def supports(function, dtype):
    """Of the stand-in only."""
    return dtype in SOCS[_current[0]].get(function, DTYPES[function])


def api_check_support(intrinsic, dtype=""):
    """Only the question that the operators ask."""
    if (intrinsic, dtype) != ("tbe.dsl.round", "f322bf16"):
        raise NotImplementedError(f"api_check_support({intrinsic!r}, {dtype!r})")
    return supports("bfloat16", "bfloat16")
