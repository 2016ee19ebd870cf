"""Bn3dReduce for the unify scheduler, registered by its type."""

from tbe.common.register import register_operator

from ..bn3d_reduce import bn3d_reduce as source

bn3d_reduce = register_operator("Bn3dReduce")(source)
