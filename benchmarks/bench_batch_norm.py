"""The same as `bn3d bench`: see python/bn3d/commands/bench/ and README.md here."""

import typer

from bn3d import interrupts
from bn3d.commands.bench.command import bench

if __name__ == "__main__":
    interrupts.guard()
    typer.run(bench)
