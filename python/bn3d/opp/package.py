"""Packs the operator package: one executable file with the vendor tree and its installer.

The file is a Python zip application behind a few lines of shell, so that `sh FILE` runs it, as
it runs CANN's own packages.

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
import io
import os
import sys
import zipfile
from pathlib import Path

from .. import __version__
from ..operators import OPERATORS
from . import cann, op_info
from .support import SOCS

__all__ = [
    "PackageError",
    "file_name",
    "find_sources",
    "main",
    "vendor_tree",
    "write",
    "write_file",
]

_HERE = Path(__file__).parent
_TBE = "op_impl/ai_core/tbe"
_INSTALLER = (
    *("cann.py", "payload.py", "record.py", "vendors.py", "installer.py", "status.py"),
    "__main__.py",
)
# The shell reads no further than this, and Python begins at the archive's end. In braces, so that
# the shell reads all of it before it runs any: of a file that was cut here it runs nothing.
_DIGEST = b"0" * 64  # stands for that of the file without it
_HEADER = (
    b"""#!/bin/sh
{
command -v python3 >/dev/null || { echo "error: python3 was not found" >&2; exit 2; }
python3 -I -c '
import hashlib, sys
if sys.version_info < (3, 7):
    sys.exit("error: python3 must be 3.7 or later, it is %%d.%%d" %% sys.version_info[:2])
with open(sys.argv[1], "rb") as file:
    content = file.read()
if hashlib.sha256(content.replace(sys.argv[2].encode(), b"", 1)).hexdigest() != sys.argv[2]:
    sys.exit("error: the package is damaged: %%s is not as it was built" %% sys.argv[1])
' "$0" %s || exit 2
exec python3 "$0" "$@"
}
"""
    % _DIGEST
)
_MAIN = b"""try:
    from bn3d.opp.__main__ import main

    main()
except KeyboardInterrupt:  # the installer has put back what was
    import os

    os.write(2, b"error: interrupted\\n")
    os._exit(130)
"""
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
    """
    tree = _tbe_sources(sources / _TBE / "bn3d_impl")
    for soc in SOCS:
        text = op_info.to_json(op_info.op_info(soc))
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


def file_name(info: dict[str, str]) -> str:
    """Of the package with this version.info: bn3d-opp-0.1.0-cann8.5-910-910b-910_93-aarch64.run.

    The CANN is the one that it was built with, by its compiler's version, which is 7.7 in CANN 8.1.
    """
    version = info.get("custom_opp_compiler_version")
    socs = [soc.removeprefix("ascend") for soc in info["bn3d_socs"].split(",")]
    built_with = f"cann{cann.short_version(version)}" if version else "anycann"
    return "-".join(["bn3d-opp", info["bn3d_version"], built_with, *socs, info["bn3d_arch"]]) + (
        ".run"
    )


def write(tree: dict[str, bytes], directory: Path) -> Path:
    """Write the package of a vendor tree into `directory`; returns its path."""
    info = dict(line.split("=", 1) for line in tree["version.info"].decode().splitlines())
    files = {f"package/{name}": data for name, data in tree.items()}
    files["__main__.py"] = _MAIN
    files["bn3d/__init__.py"] = files["bn3d/opp/__init__.py"] = b""
    for name in _INSTALLER:
        files[f"bn3d/opp/{name}"] = (_HERE / name).read_bytes()
    packed = io.BytesIO()
    packed.write(_HEADER)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    content = packed.getvalue()
    digest = hashlib.sha256(content.replace(_DIGEST, b"", 1)).hexdigest().encode()
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / file_name(info)
    return write_file(path, content.replace(_DIGEST, digest, 1), executable=True)


def write_file(path: Path, data: bytes, executable: bool = False) -> Path:
    """Write a whole file or none; a link stays one, and the umask decides who may read it."""
    target = Path(os.path.realpath(path))
    mode = 0o777 if executable else 0o666
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(target)
    except BaseException:
        partial.unlink()
        raise
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
    except PackageError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
