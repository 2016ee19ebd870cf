"""The command `bn3d convert`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mindspore import nn

    from bn3d.migrate.report import Conversion

__all__ = ["convert"]


def convert(
    source: Annotated[
        Path, typer.Argument(help="A .pt, .pth or .safetensors file; a .ckpt to go back.")
    ],
    output: Annotated[Path, typer.Argument(help="A .ckpt file; one of the others to go back.")],
    net: Annotated[
        str,
        typer.Option(help="The network: package.module:function, called without arguments."),
    ],
    rename: Annotated[
        list[str] | None,
        typer.Option(help="PATTERN=REPLACEMENT for PyTorch's names, a regular expression; repeat."),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Where in the file the state dict is, such as state_dict.")
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Write what fits.")] = False,
) -> None:
    """Convert a whole network's checkpoint from PyTorch to MindSpore, or back."""
    from bn3d.migrate.report import ConversionError  # noqa: PLC0415, MindSpore takes seconds
    from bn3d.migrate.state_dict import convert_state_dict  # noqa: PLC0415
    from bn3d.migrate.torch_state_dict import to_torch_state_dict  # noqa: PLC0415

    try:
        rules = [_rule(text) for text in rename or []]
        network = _build(net)
        if source.suffix == ".ckpt":
            if key is not None:
                raise ValueError(f"--key is for files of PyTorch, and {source} is none")
            conversion = to_torch_state_dict(
                network, checkpoint=source, output=output, rules=rules, partial=partial
            )
        else:
            conversion = convert_state_dict(
                source, network, output=output, rules=rules, key=key, partial=partial
            )
    except ConversionError as error:
        _show(error.conversion)
        typer.echo(
            f"bn3d: {output} was not written; name what differs with --rename "
            "PATTERN=REPLACEMENT, or write what fits with --partial",
            err=True,
        )
        raise typer.Exit(1) from None
    except (ImportError, OSError, TypeError, ValueError) as error:
        typer.echo(f"bn3d: {error}", err=True)
        raise typer.Exit(2) from None
    _show(conversion)
    typer.echo(f"wrote {output}")


def _rule(text: str) -> tuple[str, str]:
    pattern, equals, replacement = text.partition("=")
    if not equals:
        raise ValueError(f"--rename must be PATTERN=REPLACEMENT, got {text!r}")
    return pattern, replacement


def _build(target: str) -> nn.Cell:
    """The network that `package.module:function` returns."""
    from mindspore import nn  # noqa: PLC0415, it takes seconds to load

    module, colon, function = target.partition(":")
    if not (module and colon and function):
        raise ValueError(f"--net must be package.module:function, got {target!r}")
    sys.path.insert(0, str(Path.cwd()))
    try:
        build = getattr(importlib.import_module(module), function, None)
    except ImportError as error:
        raise ValueError(f"--net: {module} cannot be imported: {error}") from error
    finally:
        sys.path.pop(0)
    if not callable(build):
        raise ValueError(f"--net: {module} has no function {function}")
    network = build()
    if not isinstance(network, nn.Cell):
        raise TypeError(
            f"--net: {target} must return a mindspore.nn.Cell, got {type(network).__name__}"
        )
    return network


def _show(conversion: Conversion) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table("", "tensor", "", box=None, pad_edge=False)
    for each in conversion.mapped:
        cast = f", cast from {each.cast_from}" if each.cast_from else ""
        table.add_row("mapped", each.source, f"{each.target} {each.shape} {each.dtype}{cast}")
    for name, why in conversion.missing.items():
        table.add_row("missing", name, why)
    for name in conversion.unexpected:
        table.add_row("unexpected", name, "nothing takes it")
    for name, why in conversion.mismatched.items():
        table.add_row("mismatched", name, why)
    for name in conversion.dropped:
        table.add_row("dropped", name, "has no meaning in MindSpore")
    console = Console()
    console.print(table)
    console.print(conversion.summary)
