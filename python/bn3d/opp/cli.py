"""`bn3d opp ...`: the Ascend operator package on the command line."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from bn3d import interrupts, tables

from . import deploy as deployment
from . import installer
from .build import BuildError
from .build import build as build_package
from .cann import CannError
from .package import PackageError
from .payload import InstallError, Package
from .status import report, show
from .status import status as read_status

__all__ = ["app"]

app = typer.Typer(
    help="Build, install and deploy the operators for Ascend 910.", no_args_is_help=True
)

_DAY = 86400


def _directory(text: str) -> Path:
    if not text:  # an unset variable; Path("") is the directory of the process
        raise typer.BadParameter("must name a directory, it is empty")
    return Path(text)


def _command(text: str) -> str:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise typer.BadParameter(f"must be a command, got {text!r}: {error}") from error
    if not words:
        raise typer.BadParameter("must be a command, it is empty")
    return text


def _seconds(number: float) -> float:
    if not 0 < number <= _DAY:
        raise typer.BadParameter(f"must be above 0 and at most {_DAY} seconds, got {number}")
    return number


PathOption = Annotated[
    Path | None,
    typer.Option(
        "--path",
        parser=_directory,
        metavar="DIR",
        help="Directory of vendors/. By ASCEND_CUSTOM_OPP_PATH, else ASCEND_OPP_PATH.",
    ),
]
PackageOption = Annotated[
    Path | None,
    typer.Option("--package", help="A .run file. Without it, it is built with this CANN."),
]
ArchOption = Annotated[
    str | None, typer.Option(help="aarch64 or x86_64. By default this machine's.")
]
_SET_ENV = " or ".join(deployment.SET_ENV)


@app.command()
def build(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the file goes.")] = Path(),
    arch: ArchOption = None,
) -> None:
    """Build the package, one .run file, against the CANN of ASCEND_HOME_PATH."""
    with _errors(), interrupts.raised():
        typer.echo(build_package(output, arch))


@app.command()
def install(path: PathOption = None, package: PackageOption = None) -> None:
    """Install or upgrade on this machine."""
    with _errors(), interrupts.raised(), _built(package) as file:
        installer.install(Package.open(file), path)
        tables.say(report(read_status(path)))


@app.command()
def uninstall(path: PathOption = None) -> None:
    """Remove, and put back what was."""
    with _errors(), interrupts.raised():
        typer.echo(f"removed {installer.uninstall(path)}")


@app.command()
def status(
    path: PathOption = None,
    output: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE|-", help="Write it there as JSON, - prints it."),
    ] = None,
) -> None:
    """Say what is installed, and whether CANN uses it; exit code 1 if not."""
    with _errors():
        state = read_status(path)
        if output is None:
            tables.say(report(state))
        else:
            show(state, output)
    raise typer.Exit(0 if state["active"] else 1)


@app.command()
def deploy(
    hosts: Annotated[list[str], typer.Argument(help="As ssh takes them: name or user@name.")],
    package: PackageOption = None,
    path: Annotated[str | None, typer.Option(help="Directory on the hosts.")] = None,
    ssh: Annotated[
        str, typer.Option(callback=_command, help="The ssh command with its options.")
    ] = "ssh",
    set_env: Annotated[
        str | None,
        typer.Option(help=f"CANN's set_env.sh on the hosts. By default {_SET_ENV}."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(callback=_seconds, help="Seconds a host may take.")
    ] = 300.0,
    jobs: Annotated[int, typer.Option(min=1, help="Hosts at the same time.")] = 16,
    arch: ArchOption = None,
    wheel: Annotated[
        Path | None,
        typer.Option(help="A wheel of bn3d for the hosts, as scripts/wheels.sh makes it."),
    ] = None,
    python: Annotated[
        str, typer.Option(help="The interpreter on the hosts that gets the wheel.")
    ] = "python3",
) -> None:
    """Install on many hosts over ssh and check each; exit code 1 if any failed."""
    from rich.console import Console  # noqa: PLC0415, it takes its time, also for `--help`

    console = Console(stderr=True)
    with (
        _errors(),
        interrupts.raised(),
        _built(package, arch) as file,
        console.status("") as progress,
    ):
        arrived: list[deployment.Result] = []

        def show(result: deployment.Result) -> None:
            arrived.append(result)
            progress.update(f"{len(arrived)} of {len(set(hosts))} hosts, last {result.host}")

        progress.update(f"installing {file.name} on {len(set(hosts))} hosts")
        results = deployment.deploy(
            hosts, file, path, shlex.split(ssh), set_env, timeout, jobs, show, wheel, python
        )
    print(_table(results, tables.width_of()))
    raise typer.Exit(0 if all(result.ok for result in results) else 1)


def _table(results: list[deployment.Result], width: int | None) -> str:
    """A line for each host; in a terminal what is said of it folds."""
    rows = []
    for result in results:
        state = result.state
        outcome = f"failed  {result.message}"
        if result.ok:
            outcome = f"ok      {state['version']}  {state['location']}"
            if not state["searched"]:  # of a --path
                outcome += ": CANN does not search there unless bin/set_env.bash there is sourced"
        # What a host answers must not move the cursor of this terminal.
        shown = "".join(letter if letter.isprintable() else "?" for letter in outcome)
        rows.append((result.host, shown))
    return tables.pairs(rows, width)


@contextmanager
def _built(package: Path | None, arch: str | None = None) -> Iterator[Path]:
    """The package that was given, or one built for the occasion."""
    if package is not None:
        yield package
        return
    with tempfile.TemporaryDirectory(prefix="bn3d-opp-") as directory:
        yield build_package(Path(directory), arch)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (BuildError, CannError, PackageError, InstallError) as error:
        tables.say_error(str(error))
        raise typer.Exit(2) from error
