"""Makes stand-ins of system libraries that know no symbol newer than a given system has.

A linker notes the newest version of each symbol that the libraries before it offer, and so what it
makes asks for this machine's glibc and libstdc++. A later release has every symbol of an earlier
one, by the earlier one's version; a stand-in offers those alone. Nothing of it is ever loaded.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from collections import defaultdict
from pathlib import Path

# Of a line of `readelf --dyn-syms`: type, name, @@ if a linker takes this version, version.
_SYMBOL = re.compile(
    r": [0-9a-f]+ +\w+ (\w+) +(?:GLOBAL|WEAK|UNIQUE) +\w+ +(?!UND)\w+ "
    r"([\w.$]+)(@@?)(\w+?)_([\d.]+)$"
)
_TYPES = {"OBJECT": "object", "TLS": "tls_object"}


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


def symbols(library: Path, newest: dict[str, str]) -> dict[str, tuple[str, str, str]]:
    """Type, kind of version and version of each symbol: its last that is not newer than `newest`.

    Symbols that are there only for old programs, and no linker takes, are left out.
    """
    command = ["readelf", "--wide", "--dyn-syms", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, tuple[str, str, str]] = {}
    linkable = set()
    for line in done.stdout.splitlines():
        match = _SYMBOL.search(line)
        if not match:
            continue
        type_, name, at, kind, version = match.groups()
        if at == "@@":
            linkable.add(name)
        if kind not in newest or numbers(version) > numbers(newest[kind]):
            continue
        if name not in found or numbers(version) > numbers(found[name][2]):
            found[name] = (type_, kind, version)
    return {name: found[name] for name in found.keys() & linkable}


def write(library: Path, newest: dict[str, str], compiler: str, output: Path) -> None:
    """Make the stand-in of `library`, by its name, in the directory `output`."""
    nodes = defaultdict(list)
    source = []
    for name, (type_, kind, version) in sorted(symbols(library, newest).items()):
        nodes[f"{kind}_{version}"].append(name)
        section = '.section .tdata,"awT",%progbits' if type_ == "TLS" else ".data"
        source.append(
            f"{section}\n.globl {name}\n.type {name}, %{_TYPES.get(type_, 'function')}\n"
            f".size {name}, 8\n{name}: .quad 0\n"
        )
    script = [f"{node} {{ global: {'; '.join(names)}; }};\n" for node, names in nodes.items()]
    assembly, versions = (output / f"{library.name}.{suffix}" for suffix in ("s", "versions"))
    assembly.write_text("".join(source))
    versions.write_text("".join(script))
    options = ["-shared", "-nostdlib", f"-Wl,-soname,{library.name}"]
    if script:  # libpthread.so.0 is an empty shell from glibc 2.34 on
        options.append(f"-Wl,--version-script={versions}")
    options += ["-o", str(output / library.name)]
    subprocess.run([compiler, str(assembly), *options], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compiler", required=True, help="GCC or Clang for the libraries' system")
    parser.add_argument("--newest", nargs="+", required=True, help="such as GLIBC_2.28")
    parser.add_argument("--output", type=Path, required=True, help="directory")
    parser.add_argument("libraries", nargs="+", type=Path)
    options = parser.parse_intermixed_args()
    newest = dict(each.rsplit("_", 1) for each in options.newest)
    options.output.mkdir(parents=True, exist_ok=True)
    for library in options.libraries:
        write(library, newest, options.compiler, options.output)


if __name__ == "__main__":
    main()
