"""The command line inside the package: `sh bn3d-opp-...run --install`. Runs on Python 3.7.

It takes the options of CANN's own packages as well: with none, and with --install or --upgrade, it
installs.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from pathlib import Path

from .cann import CannError
from .installer import install, uninstall
from .payload import InstallError, Package
from .status import show, status

__all__ = ["main"]

_COMMANDS = {
    "install": "install, or upgrade what is installed",
    "upgrade": "the same",
    "uninstall": "remove, and put back what was",
    "status": "say what is installed, and whether CANN uses it; exit code 1 if not",
}


def main(arguments: list | None = None) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):  # a path may have letters that it cannot print
        sys.stdout.reconfigure(errors="backslashreplace")
    options = _parse(arguments)
    try:
        sys.exit(_run(options))
    except (InstallError, CannError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # whoever read has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)


def _parse(arguments: list | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Installs the operators of bn3d into CANN.",
        epilog="Exit code 0: done; 1: `status` found something wrong; 2: wrong use, or refused.",
        allow_abbrev=False,
    )
    said = "; ".join(f"{name}: {text}" for name, text in _COMMANDS.items())
    parser.add_argument(
        "command", nargs="?", choices=[*_COMMANDS], help=f"by default install. {said}"
    )
    for name, text in _COMMANDS.items():
        parser.add_argument(f"--{name}", dest="flags", action="append_const", const=name, help=text)
    parser.add_argument(
        "--path",
        "--install-path",
        type=_directory,
        metavar="DIR",
        help="directory of vendors/; default: by ASCEND_CUSTOM_OPP_PATH, else ASCEND_OPP_PATH",
    )
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors")
    parser.add_argument("--json", metavar="FILE|-", help="`status` as JSON, - prints it")
    parser.add_argument("--version", action="store_true", help="say the package's version")
    options = parser.parse_args(arguments)
    commands = {*(options.flags or []), *filter(None, [options.command])}
    if len(commands) > 1:
        parser.error(f"one command at a time, got {' and '.join(sorted(commands))}")
    options.command = commands.pop() if commands else "install"
    if options.json is not None and options.command != "status":
        parser.error("--json is for status only")
    return options


def _directory(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("must name a directory, it is empty")
    return Path(text)


def _run(options: argparse.Namespace) -> int:
    if options.version:
        print(Package.open(Path(sys.argv[0])).version)
        return 0
    if options.command == "uninstall":
        removed = uninstall(options.path)
        if not options.quiet:
            print(f"removed {removed}")
        return 0
    if options.command != "status":
        install(Package.open(Path(sys.argv[0])), options.path)
    state = status(options.path)
    if not options.quiet:
        show(state, options.json)
    return int(options.command == "status" and not state["active"])


if __name__ == "__main__":
    main()
