"""The command `bn3d`."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.table import Table

from bn3d.bench.command import bench
from bn3d.demo import main as demo
from bn3d.migrate.command import convert
from bn3d.opp.cli import app as opp_app
from bn3d.verify.command import verify

app = typer.Typer(
    help="Batch normalisation over volumes and video for MindSpore.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.command()(bench)
app.command("demo")(demo)
app.command()(convert)
app.add_typer(opp_app, name="opp")
app.command()(verify)


@app.command()
def info() -> None:
    """Show versions, the backend that computes, and what is missing for a better one."""
    from bn3d.environment import info as gather  # noqa: PLC0415, MindSpore takes seconds to load

    table = Table(show_header=False, box=None)
    try:
        rows = gather().rows()
    except (ValueError, RuntimeError) as error:
        typer.echo(f"bn3d: {error}", err=True)
        raise typer.Exit(2) from None
    for name, value in rows:
        table.add_row(name, value)
    Console().print(table)


if __name__ == "__main__":
    app()
