"""Packs the operator package: one executable file with the vendor tree and its installer.

The file is a Python zip application: `./bn3d-opp-VERSION-aarch64.run install`.

    __main__.py, bn3d/opp/...                        the installer
    package/version.info, package/SHA256SUMS
    package/op_proto/lib/linux/<arch>/*.so           GE prototypes
    package/op_impl/ai_core/tbe/bn3d_impl/           TBE sources, static and dynamic/
    package/op_impl/ai_core/tbe/config/<soc>/        op-info
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import sys
import zipfile
from pathlib import Path

from .. import __version__
from ..operators import OPERATORS
from . import cann, op_info, validate
from .support import SOCS

__all__ = ["PackageError", "find_sources", "main", "vendor_tree", "write"]

_HERE = Path(__file__).parent
_TBE = "op_impl/ai_core/tbe"
_INSTALLER = ("cann.py", "payload.py", "vendors.py", "installer.py", "status.py", "__main__.py")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same input gives the same file, byte for byte


class PackageError(RuntimeError):
    """The sources are incomplete or contradict each other."""


def find_sources() -> Path:
    """The directory of CMakeLists.txt, op_proto/ and op_impl/: the checkout or the wheel's copy."""
    for candidate in (_HERE.parents[2], _HERE / "_package"):
        if (candidate / "op_proto").is_dir() and (candidate / "CMakePresets.json").is_file():
            return candidate
    raise PackageError(f"the operator sources are missing beside {_HERE}; reinstall bn3d")


def vendor_tree(
    sources: Path, library: Path, arch: str, compiler_version: str | None
) -> dict[str, bytes]:
    """The files of vendors/bn3d by their path in it.

    Args:
        sources: see `find_sources`.
        library: the compiled prototypes.
        arch: of the library, as `uname -m` says it: "aarch64" or "x86_64".
        compiler_version: of the CANN whose headers it was compiled with; None if unknown, then
            CANN does not check it.

    Raises:
        PackageError: a TBE source is missing or is no Python.
        OpInfoError: the op-info would be refused by CANN.
    """
    tree = _tbe_sources(sources / _TBE / "bn3d_impl")
    for soc in SOCS:
        text = op_info.to_json(op_info.op_info(soc))
        validate.validate(text, soc.name)
        tree[f"{_TBE}/config/{soc.name}/{op_info.file_name(soc)}"] = text.encode()
    # Not directly in op_proto/: the engine looks there only if lib/ is absent.
    tree[f"op_proto/lib/linux/{arch}/{library.name}"] = library.read_bytes()
    lines = [
        f"bn3d_version={__version__}",
        f"bn3d_arch={arch}",
        f"bn3d_socs={','.join(soc.name for soc in SOCS)}",
    ]
    if compiler_version:
        lines.insert(0, f"custom_opp_compiler_version={compiler_version}")
    tree["version.info"] = "".join(line + "\n" for line in lines).encode()
    sums = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(tree.items())]
    tree["SHA256SUMS"] = "".join(sums).encode()
    return tree


def write(tree: dict[str, bytes], directory: Path) -> Path:
    """Write the package of a vendor tree into `directory`; returns its path."""
    info = dict(line.split("=", 1) for line in tree["version.info"].decode().splitlines())
    path = directory / f"bn3d-opp-{info['bn3d_version']}-{info['bn3d_arch']}.run"
    files = {f"package/{name}": data for name, data in tree.items()}
    files["__main__.py"] = b"from bn3d.opp.__main__ import main\n\nmain()\n"
    files["bn3d/__init__.py"] = files["bn3d/opp/__init__.py"] = b""
    for name in _INSTALLER:
        files[f"bn3d/opp/{name}"] = (_HERE / name).read_bytes()
    directory.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    with partial.open("wb") as out:
        out.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in sorted(files.items()):
                entry = zipfile.ZipInfo(name, _EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, data)
    partial.chmod(0o755)
    partial.replace(path)
    return path


def _tbe_sources(directory: Path) -> dict[str, bytes]:
    tree = {}
    for path in sorted(directory.rglob("*.py")):
        try:
            ast.parse(path.read_bytes(), str(path), feature_version=(3, 7))
        except SyntaxError as error:
            raise PackageError(f"{path} is no Python 3.7: {error}") from error
        tree[f"{_TBE}/bn3d_impl/{path.relative_to(directory).as_posix()}"] = path.read_bytes()
    for operator in OPERATORS:
        for name in (f"{operator.module}.py", f"dynamic/{operator.module}.py"):
            if f"{_TBE}/bn3d_impl/{name}" not in tree:
                raise PackageError(f"{directory / name} is missing")
    return tree


def main(arguments: list[str] | None = None) -> None:
    """What the CMake build calls."""
    parser = argparse.ArgumentParser(prog="python -m bn3d.opp.package", description=__doc__)
    parser.add_argument("--sources", type=Path, required=True)
    parser.add_argument("--library", type=Path, required=True)
    parser.add_argument("--arch", required=True)
    parser.add_argument("--cann", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    version = cann.compiler_version(options.cann)
    if version is None:
        print(f"warning: no version.info in {options.cann}: CANN will not check the package")
    try:
        tree = vendor_tree(options.sources, options.library, options.arch, version)
        print(write(tree, options.output))
    except (PackageError, validate.OpInfoError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
