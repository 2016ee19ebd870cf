"""Segment grey and white matter in a brain MRI: nn.BatchNorm3d against bn3d.swap(net).

    pip install '.[demo]'      # in the repository
    python examples/brain_segmentation.py --help

The parts are in python/bn3d/commands/demo/; `bn3d demo` runs the same.
"""

import typer

from bn3d import interrupts
from bn3d.commands.demo import main

if __name__ == "__main__":
    interrupts.guard()
    typer.run(main)
