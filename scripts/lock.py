"""Prints the lock file of the test environment, from the environment that it runs in:

    pip install scikit-build-core '.[test]'
    python scripts/lock.py >requirements-test.lock

It is this project's dependencies with the extra `test`, which has all of `demo` and `torch`, and
theirs, each with its version and licence. Of PyTorch any build will do: the label of this one, such
as +cpu, is left out, and what only its CUDA build needs is not locked. `scripts/test.sh` installs
these versions on the version of Python in the first line, 3.11 or later; `scripts/audit.sh` looks
for known vulnerabilities in them.
"""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def direct() -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = settings["project"]
    extras = project["optional-dependencies"]
    built_with = settings["build-system"]["requires"]
    tested = (each for extra in ("test", "demo", "torch") for each in extras[extra])
    return [*project["dependencies"], *tested, *built_with]


def visit(requirement: str, found: dict[str, importlib.metadata.Distribution]) -> None:
    wanted = Requirement(requirement)
    name = canonicalize_name(wanted.name)
    if name in found or name == "bn3d":
        return
    if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
        return
    found[name] = importlib.metadata.distribution(name)
    for other in found[name].requires or []:
        visit(other, found)


def licence(distribution: importlib.metadata.Distribution) -> str:
    metadata = distribution.metadata
    classifiers = metadata.get_all("Classifier") or []
    named = [text.split(" :: ")[-1] for text in classifiers if text.startswith("License ::")]
    text = metadata.get("License-Expression") or ", ".join(named) or metadata.get("License")
    return (text or "not stated").splitlines()[0]


def main() -> None:
    found: dict[str, importlib.metadata.Distribution] = {}
    for requirement in direct():
        visit(requirement, found)
    print(f"# Python {'.'.join(platform.python_version_tuple()[:2])}; made by scripts/lock.py")
    for name in sorted(found):
        version = Version(found[name].version).public
        print(f"{name}=={version}  # {licence(found[name])}")


if __name__ == "__main__":
    main()
