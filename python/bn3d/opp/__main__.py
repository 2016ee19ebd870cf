"""The command line inside the package: `./bn3d-opp-...run install`. Runs on Python 3.7."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from .cann import CannError
from .installer import install, uninstall
from .payload import InstallError, Package
from .status import report, status

__all__ = ["main"]


def main(arguments: list | None = None) -> None:
    parser = argparse.ArgumentParser(description="Installs the operators of bn3d into CANN.")
    commands = parser.add_subparsers(dest="command")
    commands.required = True
    for name, text in (
        ("install", "install or upgrade"),
        ("uninstall", "remove, and put back what was"),
        ("status", "what is installed, and whether CANN uses it; exit code 1 if not"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--path",
            type=Path,
            help="directory of vendors/; default: by ASCEND_CUSTOM_OPP_PATH, else ASCEND_OPP_PATH",
        )
        if name == "status":
            command.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse_args(arguments)
    try:
        if options.command == "install":
            install(Package.open(Path(sys.argv[0])), options.path)
        elif options.command == "uninstall":
            print(f"removed {uninstall(options.path)}")
            return
        state = status(options.path)
    except (InstallError, CannError) as error:
        sys.exit(f"error: {error}")
    as_json = options.command == "status" and options.json
    print(json.dumps(state) if as_json else report(state))
    if options.command == "status":
        sys.exit(0 if state["active"] else 1)


if __name__ == "__main__":
    main()
