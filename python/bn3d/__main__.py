"""The command `bn3d`, which is also `python -m bn3d`.

`info` and `--version` need neither typer nor rich, which the other commands do. What the machine
lacks, memory or room on a disk, is told in a line, whatever the command.
"""

from __future__ import annotations

import io
import os
import sys

from bn3d import __version__, interrupts, tables

__all__ = ["main"]


def main() -> None:
    interrupts.guard()
    _prepare_streams()
    try:
        try:
            _run()
        finally:
            interrupts.settle()
            _flush()
    except BrokenPipeError:
        sys.exit(1)  # whoever read has had enough
    except MemoryError as error:
        tables.say_error(f"not enough memory: {error}".removesuffix(": "))
        sys.exit(2)
    except OSError as error:
        named = error.filename is not None
        tables.say_error(f"{error.filename}: {error.strerror}" if named else str(error))
        sys.exit(2)


def _prepare_streams() -> None:
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # whoever started this process has closed it, and a file would take it
            setattr(sys, name, os.fdopen(_nowhere(), "w", errors="backslashreplace"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a letter that it has not, in a path


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(_nowhere(), sys.stdout.fileno())  # Python flushes once more as it ends
        raise OSError(error.errno, error.strerror, "standard output") from error


def _nowhere() -> int:
    return os.open(os.devnull, os.O_WRONLY)


def _run() -> None:
    try:
        import rich  # noqa: F401, PLC0415, the guard comes first; commands import its parts late

        from bn3d.commands.cli import app  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        sys.exit(_without_typer(sys.argv[1:]))
    app(prog_name="bn3d")


def _without_typer(arguments: list[str]) -> int:
    import argparse  # noqa: PLC0415

    install = f"{sys.executable} -m pip install typer rich"
    needs = f"the other commands need typer and rich: {install}"
    parser = argparse.ArgumentParser(prog="bn3d", epilog=needs)
    parser.add_argument("--version", action="version", version=f"bn3d {__version__}")
    commands = parser.add_subparsers(dest="command")
    info = commands.add_parser("info", help="versions, the backend that computes, what is missing")
    info.add_argument("--json", metavar="FILE|-", help="write it there as JSON, - prints it")
    info.add_argument(
        "--probe", action="store_true", help="run each operator once too; exit code 1 if one fails"
    )
    if arguments[:1] == ["info"] or not arguments or arguments[0].startswith("-"):
        options = parser.parse_args(arguments)
        if options.command == "info":
            from bn3d.commands.info_command import show  # noqa: PLC0415, it loads MindSpore

            return show(options.json, options.probe)
        parser.print_help()
        return 2
    print(
        f"bn3d {arguments[0]} needs typer and rich, only `bn3d info` does not: {install}",
        file=sys.stderr,
    )
    return 2


if __name__ == "__main__":
    main()
