"""Which MindSpore goes with which CANN and which Ascend.

From MindSpore's documents and from what each release checks; nothing of it was run on an NPU.
docs/ascend_reference.md says where each number is from.
"""

from __future__ import annotations

from dataclasses import dataclass

from .cann import short_version

__all__ = ["FIRST_GENERATION", "TABLE", "Release", "advice"]

FIRST_GENERATION = "ascend910"  # 910A, 910B without a digit after it, 910Pro


@dataclass(frozen=True)
class Release:
    """A MindSpore.

    Attributes:
        version: of MindSpore.
        cann: the CANN that its documents name; None if none was found.
        takes: versions of CANN's compiler that `mindspore.run_check()` takes.
        names_910a: whether its documents still name 910A.
    """

    version: str
    cann: str | None
    takes: tuple[str, ...]
    names_910a: bool


TABLE = (
    Release("2.7.0", "8.2.RC1", ("7.7", "7.8", "8.2"), names_910a=True),
    Release("2.7.2", "8.5.0", ("8.5",), names_910a=True),
    Release("2.8.0", "8.5.0", ("8.2", "8.3", "8.5"), names_910a=True),
    Release("2.9.0", "9.0.0", ("8.2", "8.3", "8.5", "9.0"), names_910a=False),
    Release("2.10.0", None, ("8.2", "8.3", "8.5", "9.0", "9.1"), names_910a=False),
)


def advice(mindspore: str, cann: str | None, soc: str | None) -> str:
    """Whether a MindSpore goes with a node by `TABLE`, and which do.

    Args:
        mindspore: its version.
        cann: the version of CANN's compiler, such as "8.5.0"; None if it is not known.
        soc: as CANN spells it, such as "ascend910b"; None if it is not known.
    """
    compiler = None if cann is None else short_version(cann)
    fitting = [
        release.version
        for release in TABLE
        if (compiler is None or compiler in release.takes)
        and (soc != FIRST_GENERATION or release.names_910a)
    ]
    node = " and ".join(
        part
        for part in (
            compiler and f"CANN's compiler {compiler}",
            "910A" if soc == FIRST_GENERATION else soc,
        )
        if part
    )
    if not node:
        return "neither CANN's version nor the device is known"
    if not fitting:
        return f"by their documents no MindSpore from {TABLE[0].version} on goes with {node}"
    if mindspore in fitting:
        return f"{mindspore} goes with {node}, by its documents"
    return (
        f"{mindspore} does not go with {node}, by its documents; {', '.join(fitting)} "
        f"{'does' if len(fitting) == 1 else 'do'}: pip install mindspore=={fitting[-1]}"
    )
