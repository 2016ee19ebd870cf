"""Bn3dGradApply by the unify scheduler: the source chooses it when its OpContext says so."""

from tbe.common.register import register_operator

from .. import bn3d_grad_apply as static

bn3d_grad_apply = register_operator("Bn3dGradApply")(static.bn3d_grad_apply)
