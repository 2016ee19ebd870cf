"""`tbe.common.register`: operators of the unify scheduler by type."""

_operators = {}


def register_operator(op_type):
    def register(function):
        _operators[op_type] = function
        return function

    return register


def get_operator(op_type):
    return _operators.get(op_type)
