"""The one setting that MindSpore's 3-D convolutions need on a processor with AVX-512.

There the oneDNN inside of MindSpore computes 3-D convolutions by its reference code, ten and more
times slower than its code for AVX2 on the same processor. oneDNN reads the environment at its
first operator, so the variable is to be set before a process computes anything.

Importing bn3d sets nothing: the commands demo and bench do, by `use_fast`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

__all__ = ["GAIN", "SETTING", "advice", "are_slow", "use_fast"]

VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # oneDNN takes the first that is set
SETTING = f"{VARIABLES[0]}=AVX2"
# Training steps of the demo's U-Net on two cores of an EPYC with AVX-512: 1124 ms, 97 ms.
GAIN = "3-D convolutions 10 times faster or more"


def are_slow(environment: Mapping[str, str] = os.environ, cpuinfo: str | None = None) -> bool:
    """Whether this processor has AVX-512, and nothing keeps oneDNN from it.

    `cpuinfo` is what /proc/cpuinfo says, by default this machine's.
    """
    return bool(_has_avx512(cpuinfo)) and not _is_limited(environment)


def advice(environment: Mapping[str, str] = os.environ, cpuinfo: str | None = None) -> str | None:
    """What to set on this processor, or that nothing is to be; None where that is not known."""
    has_avx512 = _has_avx512(cpuinfo)
    if has_avx512 is None:
        return None
    if not has_avx512:
        return "nothing to set: this processor has no AVX-512"
    name, value = _chosen(environment)
    if _is_limited(environment):
        return f"{name}={value} is set: they avoid MindSpore's slow code for AVX-512"
    slow = f"slow; set {SETTING} before Python starts: {GAIN}"
    return slow if name is None else f"{slow} ({name}={value} is set now)"


def use_fast(
    environment: MutableMapping[str, str] = os.environ, cpuinfo: str | None = None
) -> str | None:
    """Set it where it is needed, unless the user has set something; returns what to print about it.

    For programs alone, before MindSpore computes: it changes the environment of the process.
    """
    if not are_slow(environment, cpuinfo):
        return None
    name, value = _chosen(environment)
    if name is not None:
        return f"{name}={value} is left as it is; {SETTING} would make {GAIN}."
    variable, _, value = SETTING.partition("=")
    environment[variable] = value
    return f"Set {SETTING} for this run: on this processor it makes {GAIN}."


def _chosen(environment: Mapping[str, str]) -> tuple[str, str] | tuple[None, None]:
    """The variable that counts and its value; an empty one is none."""
    for name in VARIABLES:
        if environment.get(name):
            return name, environment[name]
    return None, None


def _is_limited(environment: Mapping[str, str]) -> bool:
    """Whether the user has set an instruction set below AVX-512."""
    value = (_chosen(environment)[1] or "").lower()
    return value == "sse41" or (
        value.startswith("avx") and not value.startswith(("avx512", "avx10"))
    )


def _has_avx512(cpuinfo: str | None) -> bool | None:
    """None where the system does not say, or the processor is no x86."""
    if cpuinfo is None:
        try:
            cpuinfo = Path("/proc/cpuinfo").read_text()
        except OSError:
            return None
    for line in cpuinfo.splitlines():
        name, _, flags = line.partition(":")
        if name.strip() == "flags":
            return "avx512f" in flags.split()
    return None
