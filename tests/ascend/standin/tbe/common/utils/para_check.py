"""The check of an entry's arguments by their kinds."""

import functools

from tbe.errors import require

REQUIRED_INPUT, REQUIRED_OUTPUT, KERNEL_NAME = "input", "output", "kernel name"
KEYS = ("shape", "format", "ori_shape", "ori_format", "dtype")


def check_op_params(*kinds):
    def decorate(function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            given = [*args, *kwargs.values()]
            require(len(given) in (len(kinds), len(kinds) - 1), "E80000", f"{len(given)} arguments")
            for kind, value in zip(kinds, given, strict=False):
                if kind == KERNEL_NAME:
                    require(isinstance(value, str) and len(value) <= 200, "E80002", f"{value!r}")
                    continue
                require(isinstance(value, dict), "E80003", f"an {kind} is described by a dict")
                missing = [key for key in KEYS if key not in value]
                require(not missing, "E80004", f"an {kind} lacks {missing}")
            return function(*args, **kwargs)

        return call

    return decorate
