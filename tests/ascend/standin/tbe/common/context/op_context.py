"""The engine's context of a build: its mode chooses the scheduler."""

_contexts = []


class OpContext:
    def __init__(self, op_mode=None):
        self._op_mode = op_mode

    def __enter__(self):
        _contexts.append(self)
        return self

    def __exit__(self, *_):
        _contexts.pop()

    def get_op_mode(self):
        return self._op_mode

    def set_op_mode(self, op_mode):
        self._op_mode = op_mode


def get_context():
    return _contexts[-1] if _contexts else None
