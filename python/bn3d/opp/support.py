"""Which x each Ascend SoC takes: dtypes, formats, and which TBE source compiles static shapes.

Formats are the engine's storage formats. ND is raw NCDHW: what MindSpore's kernel-by-kernel
path sends, which names no format. NDHWC is left out, see op_proto/bn3d_inputs.h.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FORMATS", "SOCS", "Soc"]

FORMATS = ("NDC1HWC0", "NCDHW", "ND")


@dataclass(frozen=True)
class Soc:
    """A directory of CANN's op-info.

    Attributes:
        name: as CANN spells the directory; ascend910 is the first generation (910A, 910B, 910Pro),
            ascend910b the Atlas A2 (910B1 to 910B4), ascend910_93 the Atlas A3.
        dtypes: of the volumes; the per-channel vectors are float32 everywhere.
        dynamic_compiles_static: static shapes go to the sources in dynamic/ too. The first
            generation has static schedules for NDC1HWC0, the others are served by dynamic/ alone.
        ops_package: what CANN calls its own package of operators: Ascend-cann-<ops_package>-ops.
    """

    name: str
    dtypes: tuple[str, ...]
    dynamic_compiles_static: bool
    ops_package: str


SOCS: tuple[Soc, ...] = (
    Soc("ascend910", ("float16", "float32"), dynamic_compiles_static=False, ops_package="910"),
    Soc(
        "ascend910b",
        ("float16", "float32", "bfloat16"),
        dynamic_compiles_static=True,
        ops_package="910b",
    ),
    Soc(
        "ascend910_93",
        ("float16", "float32", "bfloat16"),
        dynamic_compiles_static=True,
        ops_package="A3",
    ),
)
