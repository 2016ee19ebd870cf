"""Bn3dApply by the unify scheduler: the source chooses it when its OpContext says so."""

from tbe.common.register import register_operator

from .. import bn3d_apply as static

bn3d_apply = register_operator("Bn3dApply")(static.bn3d_apply)
