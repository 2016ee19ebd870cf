"""The command `bn3d check`: `bn3d.cross_check` of a network that a function of the user builds."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from bn3d import tables, user_code
from bn3d.commands import json_output
from bn3d.commands.options import Device, Json, file

if TYPE_CHECKING:
    import mindspore as ms
    from mindspore import nn

    from bn3d.networks.check_report import CrossCheck

__all__ = ["check"]


@user_code.importable_here()
def check(
    build: Annotated[
        str,
        typer.Argument(
            help="package.module:function; called without arguments, it returns the network, "
            "(network, inputs) or (network, inputs, loss). Inputs are Tensors or NumPy arrays."
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            help="A .npy file with the input, or a .npz with several; instead of the function's."
        ),
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="N,C,D,H,W: a float32 input of random numbers instead.")
    ] = None,
    train: Annotated[
        bool | None,
        typer.Option("--train/--eval", help="The mode; by default that of the network."),
    ] = None,
    beside: Annotated[
        bool, typer.Option("--beside", help="Check it once more after bn3d.swap.")
    ] = False,
    device: Annotated[Device, typer.Option(help="What to compute on.")] = Device.CPU,
    output: Json = None,
    picture: Annotated[
        Path | None,
        typer.Option(help="Draw the errors by layer there (needs matplotlib).", callback=file),
    ] = None,
) -> None:
    """Hold every batch norm layer of a network of yours against NumPy in float64.

    Exit code 0: all are right; 1: some are not, or none was called; 2: it could not be run.
    """
    # MindSpore takes seconds to load, which `--help` should not.
    import mindspore as ms  # noqa: PLC0415

    from bn3d.commands.verify.session import use_device  # noqa: PLC0415
    from bn3d.networks.cross_check import layers_to_check  # noqa: PLC0415

    try:
        if picture is not None:
            from bn3d.commands.check_picture import check_name  # noqa: PLC0415

            check_name(picture)
        ms.runtime.launch_blocking()  # an error has the line that made it, not one that waits
        use_device(device.value)
        network, inputs, loss = _built(build)
        inputs = _inputs(data, shape, inputs)
        if train is not None:
            network.set_train(train)
        layers_to_check(network, loss)
    except (ImportError, RuntimeError, TypeError, ValueError) as error:
        raise _stopped(str(error)) from None
    try:
        checks = _checks(network, inputs, loss, beside, json_output.stream_beside(output))
    except (Exception, SystemExit) as error:  # the network is the user's, and may raise anything
        raise _stopped(user_code.why(error)) from None
    if output != json_output.STANDARD_OUTPUT:
        _show(checks)
    try:
        _write(checks, output, picture)
    except OSError as error:
        raise _stopped(str(error)) from None
    raise typer.Exit(0 if next(reversed(checks.values())).ok else 1)


def _stopped(why: str) -> typer.Exit:
    tables.say_error(why)
    return typer.Exit(2)


def _checks(
    network: nn.Cell, inputs: tuple[ms.Tensor, ...], loss: Any, beside: bool, stream: IO[str]
) -> dict[str, CrossCheck]:
    """The network as it is, and with `beside` once more after bn3d.swap."""
    from bn3d.commands.progress import progress  # noqa: PLC0415
    from bn3d.networks.cross_check import cross_check  # noqa: PLC0415
    from bn3d.networks.swapping import swap  # noqa: PLC0415

    with progress("check", 1 + beside, stream) as shown:
        checks = {"as it is": cross_check(network, *inputs, loss=loss)}
        shown.advance()
        if beside:
            shown.say("after bn3d.swap")
            swap(network)
            checks["after bn3d.swap"] = cross_check(network, *inputs, loss=loss)
            shown.advance()
    return checks


def _built(target: str) -> tuple[nn.Cell, tuple, Any]:
    """(network, inputs, loss) of what the user's function returns."""
    from mindspore import nn  # noqa: PLC0415

    made = user_code.built(target, "BUILD")
    network, inputs, loss = (*made, None, None)[:3] if isinstance(made, tuple) else (made, (), None)
    if not isinstance(network, nn.Cell):
        raise TypeError(
            f"BUILD: {target} must return a network, got {network!r} ({type(network).__name__})"
        )
    if inputs is None:
        inputs = ()
    return network, tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,), loss


def _inputs(data: Path | None, shape: str | None, inputs: tuple) -> tuple[ms.Tensor, ...]:
    import mindspore as ms  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    if data is not None and shape is not None:
        raise ValueError("--data and --shape are two ways to give the input: take one")
    if data is not None:
        try:
            loaded = np.load(data, allow_pickle=False)
            arrays = [loaded] if isinstance(loaded, np.ndarray) else list(loaded.values())
            return tuple(ms.Tensor(array) for array in arrays)
        except Exception as error:  # of any class, by where the file is damaged
            said = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ValueError(f"--data: {data}: {said}") from error
    if shape is not None:
        try:
            sizes = tuple(int(size) for size in shape.split(","))
        except ValueError:
            raise ValueError(
                f"--shape must be numbers such as 2,1,32,32,32, got {shape!r}"
            ) from None
        return (ms.Tensor(np.random.default_rng(0).standard_normal(sizes).astype(np.float32)),)
    if not inputs:
        raise ValueError("no input: return (network, inputs), or give --data or --shape")
    return tuple(ms.Tensor(each) if isinstance(each, np.ndarray) else each for each in inputs)


def _show(checks: dict[str, CrossCheck]) -> None:
    for name, found in checks.items():
        tables.say(f"{name}: {found}" if len(checks) > 1 else str(found))


def _write(checks: dict[str, CrossCheck], output: str | None, picture: Path | None) -> None:
    if output is not None:
        json_output.write(output, {name: found.as_dict() for name, found in checks.items()})
    if picture is not None:
        from bn3d.commands.check_picture import draw  # noqa: PLC0415

        draw(checks, picture)
