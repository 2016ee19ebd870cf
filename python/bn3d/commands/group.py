"""How the command line shows its help and its errors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from typer.core import TyperGroup

__all__ = ["Commands"]


class Commands(TyperGroup):
    """Commands whose help cuts no sentence, and whose errors begin as all of bn3d's: "bn3d: "."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        rows = [
            (name, (command.help or "").strip().splitlines()[0])
            for name, command in self.commands.items()
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        given = (args, prog_name, complete_var)
        if not standalone_mode:
            return super().main(*given, False, windows_expand_args, **extra)
        try:
            code = super().main(*given, False, windows_expand_args, **extra)
        except Exception as error:
            # typer shows this type of click's under no name of its own.
            if not (hasattr(error, "format_message") and hasattr(error, "exit_code")):
                raise
            _show(error)
            sys.exit(error.exit_code)
        sys.exit(code if isinstance(code, int) else 0)


def _show(error: Any) -> None:
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if context is not None and message == context.get_help():  # called without arguments
        print(message, file=sys.stderr)
        return
    print(f"bn3d: {message}", file=sys.stderr)
    if context is not None:
        print(f"Try `{context.command_path} -h`.", file=sys.stderr)
