"""The command `bn3d convert`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bn3d import outputs, tables, user_code

if TYPE_CHECKING:
    from mindspore import nn

    from bn3d.migrate.report import Conversion

__all__ = ["convert"]


@user_code.importable_here()
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="A file of torch.save or safetensors; a .ckpt of MindSpore to go back."
        ),
    ],
    output: Annotated[
        Path, typer.Argument(help="A .ckpt file; to go back .safetensors, .pt, .pth or .bin.")
    ],
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
    verbose: Annotated[bool, typer.Option("--verbose", help="A line for every tensor.")] = False,
) -> None:
    """Convert a whole network's checkpoint from PyTorch to MindSpore, or back.

    What SOURCE is, its contents say.

    Exit code 0: written; 1: not written, for not all tensors have a place;
    2: wrong use, a damaged file, or PyTorch is missing.
    """
    from bn3d.migrate.report import ConversionError  # noqa: PLC0415, MindSpore takes seconds

    try:
        conversion = _convert(source, output, net, rename or [], key, partial)
    except ConversionError as error:
        _show(error.conversion, verbose)
        tables.say(error.conversion.summary)
        remedy = "name what differs with --rename PATTERN=REPLACEMENT"
        if error.conversion.mapped:
            remedy += ", or write what fits with --partial"
        tables.say_error(f"{output} was not written; {error.conversion.hint or remedy}")
        raise typer.Exit(1) from None
    except (ImportError, OSError, TypeError, ValueError) as error:
        tables.say_error(str(error))
        raise typer.Exit(2) from None
    _show(conversion, verbose)
    outputs.say_written(output, f": {conversion.summary}")


def _convert(
    source: Path, output: Path, net: str, rename: list[str], key: str | None, partial: bool
) -> Conversion:
    from bn3d.migrate.formats import Format, format_of  # noqa: PLC0415
    from bn3d.migrate.state_dict import convert_state_dict  # noqa: PLC0415
    from bn3d.migrate.torch_state_dict import to_torch_state_dict  # noqa: PLC0415

    rules = [_rule(text) for text in rename]
    kind = format_of(source)
    if output.exists() and output.samefile(source):
        raise ValueError(f"{output} is the file to convert, and would be lost")
    # Both write safetensors; where it goes tells where it is from.
    back = kind is Format.MINDSPORE or (
        kind is Format.SAFETENSORS and not output.name.endswith(".ckpt")
    )
    if back and key is not None:
        raise ValueError(f"--key is for files of PyTorch, and {source} is {kind.value}")
    network = _build(net)
    if back:
        return to_torch_state_dict(
            network, checkpoint=source, output=output, rules=rules, partial=partial
        )
    return convert_state_dict(source, network, output=output, rules=rules, key=key, partial=partial)


def _rule(text: str) -> tuple[str, str]:
    # At the last `=`: patterns such as (?=x) contain one, names do not.
    pattern, equals, replacement = text.rpartition("=")
    if not equals:
        raise ValueError(f"--rename must be PATTERN=REPLACEMENT, got {text!r}")
    return pattern, replacement


def _build(target: str) -> nn.Cell:
    """The network that `package.module:function` returns."""
    from mindspore import nn  # noqa: PLC0415, it takes seconds to load

    network = user_code.built(target, "--net")
    if not isinstance(network, nn.Cell):
        raise TypeError(f"--net: {target} must return a mindspore.nn.Cell, got {type(network)}")
    return network


def _show(conversion: Conversion, verbose: bool) -> None:
    """A line for each tensor without its place, and for all others if asked for."""
    lines = [*(conversion.successes() if verbose else ()), *conversion.problems()]
    for line in lines:
        tables.say(line)
