"""The command line of `bn3d`; `bn3d.__main__` starts it."""

from __future__ import annotations

from typing import Annotated

import typer

from bn3d import __version__
from bn3d.commands.bench.command import bench
from bn3d.commands.check import check
from bn3d.commands.demo import main as demo
from bn3d.commands.group import Commands
from bn3d.commands.info_command import show
from bn3d.commands.options import Json
from bn3d.commands.verify.command import verify
from bn3d.migrate.command import convert
from bn3d.opp.cli import app as opp_app

app = typer.Typer(
    cls=Commands,
    help="Batch normalisation over volumes and video for MindSpore.",
    epilog="Exit code 0: right; 1: the check failed; 2: wrong use or a missing part; "
    "130: interrupted.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(bench)
app.command()(check)
app.command("demo")(demo)
app.command()(convert)
app.add_typer(opp_app, name="opp", cls=Commands)
app.command()(verify)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bn3d {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Batch normalisation over volumes and video for MindSpore."""


@app.command()
def info(
    output: Json = None,
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Run each operator once too; exit code 1 if one fails."),
    ] = False,
) -> None:
    """Show versions, the backend that computes, and what is missing for a better one."""
    raise typer.Exit(show(output, probe))


if __name__ == "__main__":
    from bn3d.__main__ import main

    main()
