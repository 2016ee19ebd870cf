"""Bn3dGradReduce by the unify scheduler: the source chooses it when its OpContext says so."""

from tbe.common.register import register_operator

from .. import bn3d_grad_reduce as static

bn3d_grad_reduce = register_operator("Bn3dGradReduce")(static.bn3d_grad_reduce)
