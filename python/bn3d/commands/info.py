"""`info`: what bn3d computes with on this machine, and what is missing for better."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import itertools
import os
import platform
from dataclasses import dataclass, field

import mindspore as ms
import numpy as np

import bn3d
from bn3d import backends, convolutions
from bn3d.backends import Backend, ascend_obstacles, fallback, library
from bn3d.backends.threads import follow_now
from bn3d.mindspore_private.device import soc_name
from bn3d.operators import OPERATORS
from bn3d.opp import cann, node, pairing
from bn3d.opp.payload import InstallError
from bn3d.opp.status import status

__all__ = ["Info", "info"]

_PROBED = (2, 20, 2, 4, 4)
_RUNS = "runs"

# Measured by benchmarks/bench_networks.py.
_PYNATIVE = "mindspore.runtime.launch_blocking() makes networks 1.9 to 5.4 times as fast on 2 cores"


@dataclass(frozen=True)
class Info:
    """What `bn3d.info()` found.

    Attributes:
        versions: of bn3d, Python, MindSpore, NumPy and, where it is installed, PyTorch.
        platform: operating system and processor.
        device_target: MindSpore's.
        backend: the one that layers built now compute with.
        passed_over: why not a better backend, by its name.
        library: file of the native CPU library, or why there is none.
        instruction_set: the library's choice on this processor, None without a library.
        threads: that one call of the library uses, None without a library.
        convolutions: what to set for MindSpore's 3-D convolutions on this processor, or that it is
            set; None where that is not known.
        pynative: what makes PyNative mode fast on a CPU, None on another device.
        cann: directory and version of CANN, None where the environment names none.
        pairing: whether this MindSpore goes with that CANN and this device, by their documents, and
            which do; None without CANN.
        operator_package: where bn3d's operators for Ascend are, and their state; None without CANN.
        obstacles: what keeps those from being used, with remedies; empty without CANN, too.
        fallbacks: volumes that layers of this process computed with MindSpore's own operators, and
            why, such as "(2, 64, 8, 28, 28) float16: Bn3dApply: ...".
        probe: "runs", or the error, of each operator with each dtype, such as "Bn3dApply float16";
            empty if that was not asked for.
    """

    versions: dict[str, str]
    platform: str
    device_target: str
    backend: str
    passed_over: dict[str, str]
    library: str
    instruction_set: str | None
    threads: int | None
    convolutions: str | None = None
    pynative: str | None = None
    cann: str | None = None
    pairing: str | None = None
    operator_package: str | None = None
    obstacles: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()
    probe: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether all that was probed runs."""
        return all(said == _RUNS for said in self.probe.values())

    def rows(self) -> list[tuple[str, str]]:
        """The same as (what, value) texts, for a table."""
        rows = [(name, version) for name, version in self.versions.items()]
        rows += [
            ("platform", self.platform),
            ("device target", self.device_target),
            ("backend", self.backend),
        ]
        rows += [(f"not {name}, because", why) for name, why in self.passed_over.items()]
        rows.append(("native library", self.library))
        if self.instruction_set is not None:
            rows += [("instruction set", self.instruction_set), ("threads", str(self.threads))]
        if self.convolutions is not None:
            rows.append(("3-D convolutions", self.convolutions))
        if self.pynative is not None:
            rows.append(("PyNative mode", self.pynative))
        if self.cann is not None:
            rows += [
                ("CANN", self.cann),
                ("MindSpore for it", self.pairing or ""),
                ("operator package", self.operator_package or ""),
            ]
            said = self.passed_over.values()
            todo = [each for each in self.obstacles if each not in said]
            rows += [(f"to do for Ascend ({n})", each) for n, each in enumerate(todo, 1)]
        rows += [(f"not by bn3d ({n})", each) for n, each in enumerate(self.fallbacks, 1)]
        rows += self.probe.items()
        return rows

    def as_json(self) -> dict:
        """The same as what `json` can write."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.rows())
        return "\n".join(f"{name:{width}}  {value}" for name, value in self.rows())


def info(probe: bool = False) -> Info:
    """Tell which backend layers compute with here, why not a better one, and how to get it.

    Args:
        probe: also run each operator of the backend once with each dtype, on a small volume. It
            tells whether they compile and run; `bn3d verify` tells whether they are right.

    Returns:
        What was found, a field each; `str()` of it is what the command `bn3d info` prints.

    Raises:
        TypeError: probe is no bool.
        ValueError: BN3D_BACKEND names no backend.
        RuntimeError: BN3D_BACKEND asks for a backend that does not work here.

    Supported Platforms:
        ``Ascend`` ``CPU``

    Examples:
        >>> bn3d.info(probe=True).ok
        True
    """
    if not isinstance(probe, bool):
        raise TypeError(f"'probe' must be a bool, got {probe!r} ({type(probe).__name__})")
    choice = backends.choose()
    try:
        native = library.load()
        follow_now()
        found, instruction_set, threads = str(native.path), native.instruction_set, native.threads
    except library.LibraryError as error:
        found, instruction_set, threads = str(error), None, None
    versions = {
        "bn3d": bn3d.__version__,
        "Python": platform.python_version(),
        "MindSpore": ms.__version__,
        "NumPy": np.__version__,
    }
    try:
        versions["PyTorch"] = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        versions["PyTorch"] = "not installed (only migration needs it: pip install torch)"
    return Info(
        versions,
        f"{platform.system()} {platform.machine()}",
        ms.get_context("device_target"),
        choice.name,
        _passed_over(choice),
        found,
        instruction_set,
        threads,
        convolutions.advice(),
        _PYNATIVE if ms.get_context("device_target") == "CPU" else None,
        *_ascend(),
        tuple(
            f"{shape} {dtype}: {reason}" for (shape, dtype), reason in fallback.FALLBACKS.items()
        ),
        _probe(choice.backend) if probe else {},
    )


def _passed_over(choice: backends.Choice) -> dict[str, str]:
    """What speaks against each better backend, if only that BN3D_BACKEND asks for this one."""
    if os.environ.get(backends.ENVIRONMENT_VARIABLE, "auto") in ("", "auto"):
        return choice.passed_over
    why = f"{backends.ENVIRONMENT_VARIABLE} asks for {choice.name}"
    better = itertools.takewhile(lambda item: item[0] != choice.name, backends.BACKENDS.items())
    return {name: why for name, on in better if on in (ms.get_context("device_target"), None)}


def _probe(backend: Backend) -> dict[str, str]:
    """On the engine that layers get in MindSpore's present mode."""
    in_graphs = ms.get_context("mode") == ms.GRAPH_MODE
    engine = () if in_graphs else fallback.KERNEL_BY_KERNEL
    return {
        f"{operator.type} {dtype}": fallback.failure(
            backend.operators, operator, _PROBED, dtype, engine
        )
        or _RUNS
        for operator in OPERATORS
        for dtype in backend.dtypes
    }


def _ascend() -> tuple[str | None, str | None, str | None, tuple[str, ...]]:
    """The attributes of `Info` from `cann` to `obstacles`."""
    root = cann.find()
    if root is None:
        return None, None, None, ()
    version = cann.compiler_version(root)
    found = f"{root} ({version or 'of unknown version'})"
    soc = soc_name()
    paired = pairing.advice(ms.__version__, version, soc)
    try:
        state = status()
    except InstallError as error:
        package = str(error)
    else:
        package = state["location"]
        package += (
            f" ({state['version']}, {'in use' if state['active'] else 'not used'})"
            if state["installed"]
            else " (not installed)"
        )
    todo = [*ascend_obstacles.obstacles(), *node.notes(soc)]
    target = ms.get_context("device_target")
    if target != "Ascend":
        todo.append(
            f"MindSpore's device target is {target}: where `npu-smi info` shows a device, call "
            'mindspore.set_device("Ascend")'
        )
    return found, paired, package, tuple(todo)
