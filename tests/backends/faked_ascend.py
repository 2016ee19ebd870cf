"""Run by test_ascend.py in a process of its own: bn3d told that the device target is Ascend.

Usage: faked_ascend.py primitives|choice; answers with one line of JSON.
"""

from __future__ import annotations

import json
import logging
import sys

import mindspore as ms

_get_context = ms.context.get_context


def _faked(name):
    return "Ascend" if name == "device_target" else _get_context(name)


def fake_target():
    ms.context.get_context = ms.get_context = _faked


def primitives() -> dict:
    """What MindSpore would read of each operator on Ascend."""
    from bn3d.backends import ascend  # noqa: PLC0415 - after the fake

    found = {}
    for name, primitive in ascend.BACKEND.operators._asdict().items():
        attributes = {key: _plain(value) for key, value in primitive.attrs.items()}
        volume, channel = (2, 3, 4, 5, 6), (3,)
        kinds = [channel if n not in ("x", "dy") else volume for n in attributes["input_names"]]
        halves = [ms.float32 if kind == channel else ms.float16 for kind in kinds]
        found[name] = {
            "func": primitive.func,
            "func_type": primitive.func_type,
            "attributes": attributes,
            "registration": {key: _plain(v) for key, v in primitive.reg_info.items()},
            "shapes": primitive.out_shape(*kinds),
            "dtypes": _plain(primitive.out_dtype(*halves)),
        }
    return found


def _plain(value):
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def choice() -> dict:
    """Which backend layers get, why not a better one, and what was logged."""
    from bn3d import backends  # noqa: PLC0415 - after the fake

    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger("bn3d").addHandler(handler)
    try:
        chosen = backends.choose()
        backends.choose()
    except RuntimeError as error:
        return {"error": str(error)}
    return {"name": chosen.name, "passed_over": chosen.passed_over, "warnings": messages}


if __name__ == "__main__":
    fake_target()
    print(json.dumps({"primitives": primitives, "choice": choice}[sys.argv[1]]()))
