"""Looks for known vulnerabilities in the locked test environment, for machines without a service
that tells them, where `scripts/audit.sh` fails:

    pip install packaging pyyaml
    python scripts/audit_offline.py ADVISORIES [LOCK_FILE]

ADVISORIES is a folder of OSV records (https://ossf.github.io/osv-schema), such as a clone of
https://github.com/pypa/advisory-database or OSV's unpacked archive of PyPI. The answer is only as
new as they are, so the newest record's day is printed. Ends with 1 if a package is affected, and
with 2 if there is nothing to compare.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

LOCK_FILE = Path(__file__).parents[1] / "requirements-test.lock"
# Of JSON as well, which is YAML.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def locked(path: Path) -> dict[str, str]:
    """The version of each package in a lock file."""
    lines = (line.partition("#")[0].rstrip(" \\") for line in path.read_text().splitlines())
    pins = [Requirement(line) for line in lines if line and not line.startswith(" ")]  # no hashes
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}


def records(folder: Path) -> list[dict]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".yaml", ".json"))
    loaded = [yaml.load(path.read_bytes(), LOADER) for path in paths]
    return [each for each in loaded if isinstance(each, dict) and "affected" in each]


def in_range(version: Version, events: list[dict]) -> bool:
    """Whether a version lies in a range of OSV, whose events are in the order of versions."""
    affected = False
    for event in events:
        ((kind, bound),) = event.items()
        match kind:
            case "introduced" if bound == "0" or version >= Version(bound):
                affected = True
            case "fixed" if version >= Version(bound):
                affected = False
            case "last_affected" if version > Version(bound):
                affected = False
    return affected


def affects(entry: dict, version: str) -> bool:
    """Whether an entry of `affected` names the version. Bounds that aren't versions count as hits:
    better one to look at than one overlooked.
    """
    if version in entry.get("versions", []):
        return True
    ranges = [each for each in entry.get("ranges", []) if each["type"] == "ECOSYSTEM"]
    try:
        return any(in_range(Version(version), each["events"]) for each in ranges)
    except InvalidVersion:
        return True


def main(advisories: str, lock_file: str | Path = LOCK_FILE) -> int:
    pins = locked(Path(lock_file))
    known = [each for each in records(Path(advisories)) if not each.get("withdrawn")]
    if not pins or not known:
        print(f"nothing to compare: {len(pins)} packages, {len(known)} advisories in {advisories}")
        return 2
    named, hits = set(), []
    for record in known:
        for entry in record["affected"]:
            package = entry.get("package", {})
            name = canonicalize_name(package.get("name", ""))
            if package.get("ecosystem") == "PyPI" and name in pins:
                named.add(record["id"])
                if affects(entry, pins[name]):
                    hits.append(f"{name} {pins[name]}: {record['id']}")
    newest = max(str(record["modified"])[:10] for record in known)
    print(f"{len(known)} advisories, the newest of {newest}; {len(named)} name one of {len(pins)}")
    print("\n".join(sorted(set(hits))) or "none affects a locked version")
    return 1 if hits else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("advisories", type=Path)
    parser.add_argument("lock_file", type=Path, nargs="?", default=LOCK_FILE)
    options = parser.parse_args()
    sys.exit(main(options.advisories, options.lock_file))
