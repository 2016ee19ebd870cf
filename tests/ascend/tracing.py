"""The calls of `tbe.dsl` that an operator's source makes, in a normal form, schedule by schedule.

For the stand-in and for the real front end alike, which knows Python 3.9 only: both are modules
`tbe.dsl`, whose functions are replaced while a source runs.
"""

import contextlib
import hashlib

CALLS = ("cast_to", "round", "broadcast", "tuple_sum", "vadd", "vsub", "vmul", "vmuls")


class Attempt:
    """A graph handed to auto_schedule. `graph` has a line for each call; `made` is the verdict."""

    def __init__(self, graph):
        self.graph, self.made = graph, False

    @property
    def digest(self):
        return hashlib.sha256("\n".join(self.graph).encode()).hexdigest()[:16]


@contextlib.contextmanager
def traced(dsl, declined=()):
    """Yields the list of Attempts; those whose digest is in `declined` raise RuntimeError."""
    from tbe.common.context import op_context  # noqa: PLC0415  (of the same kind as `dsl`)

    attempts, lines, names, kept = [], [], {}, []

    def name_of(value):
        if isinstance(value, (list, tuple)):
            return "[" + ", ".join(map(name_of, value)) + "]"
        if not hasattr(value, "dtype"):
            return repr(value)
        if id(value) not in names:
            _name(value)
            lines.append(f"{names[id(value)]} = input {_described(value)}")
        return names[id(value)]

    def _name(tensor):
        names[id(tensor)] = f"t{len(names)}"
        kept.append(tensor)  # an id is reused where its object is gone

    def wrap(name, function):
        def call(*args):
            text = f"{name}({', '.join(map(name_of, args))})"
            result = function(*args)
            tensors = list(result) if isinstance(result, (list, tuple)) else [result]
            if any(id(tensor) not in names for tensor in tensors):  # a cast may be none
                for tensor in tensors:
                    _name(tensor)
                made = ", ".join(f"{names[id(t)]} {_described(t)}" for t in tensors)
                lines.append(f"{made} = {text}")
            return result

        return call

    def schedule(outs, *args):
        context = op_context.get_context()
        unify = context is not None and context.get_op_mode() in ("static", "dynamic")
        scheduler = ["for the unify scheduler"] if unify else []
        attempt = Attempt([*lines, f"outputs {name_of(list(outs))}", *scheduler])
        attempts.append(attempt)
        for state in (lines, names, kept):
            state.clear()
        if attempt.digest in declined:
            raise RuntimeError("declined, as the real scheduler did")
        result = auto_schedule(outs, *args)
        attempt.made = True
        return result

    auto_schedule = dsl.auto_schedule
    originals = {name: getattr(dsl, name) for name in CALLS}
    try:
        for name, function in originals.items():
            setattr(dsl, name, wrap(name, function))
        dsl.auto_schedule = schedule
        yield attempts
    finally:
        dsl.auto_schedule = auto_schedule
        for name, function in originals.items():
            setattr(dsl, name, function)


def _described(tensor):
    return f"{tensor.dtype}{[int(size) for size in tensor.shape]}"
