"""Bn3dApply for the unify scheduler, registered by its type."""

from tbe.common.register import register_operator

from ..bn3d_apply import bn3d_apply as source

bn3d_apply = register_operator("Bn3dApply")(source)
