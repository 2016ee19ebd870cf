#!/usr/bin/env python3
"""Prints the tables of docs/sync.md: what SyncBatchNorm3d sends, and an estimate of its time.

Nothing here was measured on Ascend. The model of an AllReduce of b bytes over R devices is
recursive halving and doubling, https://doi.org/10.1177/1094342005051521, section 4.4:
2 log2(R) steps of a latency each, and 2 b (R - 1)/R bytes through the slowest link.
"""

from __future__ import annotations

import argparse
import math

from bn3d.backends.synchronised import values_backward, values_forward

# Channels of the norm layers of a 3-D ResNet-50: stem, then four stages of bottleneck blocks,
# each with a shortcut in its first block.
STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))  # blocks, width
RESNET50 = [64] + [
    channels
    for blocks, width in STAGES
    for block in range(blocks)
    for channels in (width, width, 4 * width, *([4 * width] if block == 0 else []))
]

SERVER = 8  # devices
# Bytes a second: an HCCS port of an Ascend 910, 240 Gbit/s, inside a server, and one of its
# RoCE ports, 100 Gbit/s, between servers.
INSIDE, BETWEEN = 240e9 / 8, 100e9 / 8
LATENCY_INSIDE, LATENCY_BETWEEN = 5e-6, 10e-6  # seconds a step: assumed
LAUNCH = 20e-6  # seconds to start a collective: assumed


def sent(devices: int) -> tuple[int, int]:
    """Bytes of all AllReduce vectors of a step: forward, backward."""
    forward = sum(4 * values_forward(channels, devices) for channels in RESNET50)
    return forward, sum(4 * values_backward(channels) for channels in RESNET50)


def all_reduce_seconds(size: float, devices: int) -> float:
    bandwidth, latency = (
        (INSIDE, LATENCY_INSIDE) if devices <= SERVER else (BETWEEN, LATENCY_BETWEEN)
    )
    steps = 2 * math.log2(devices)
    return LAUNCH + steps * latency + 2 * size * (devices - 1) / devices / bandwidth


def step_seconds(devices: int) -> float:
    """Every AllReduce of a step, one after the other, overlapping nothing."""
    return sum(
        all_reduce_seconds(4 * values_forward(channels, devices), devices)
        + all_reduce_seconds(4 * values_backward(channels), devices)
        for channels in RESNET50
    )


def tables() -> str:
    lines = [
        "| devices | forward, MB | backward, MB | estimate, ms a step |",
        "|--------:|------------:|-------------:|--------------------:|",
    ]
    for devices in (8, 16, 32, 64, 128, 256, 512, 1024):
        forward, backward = sent(devices)
        milliseconds = step_seconds(devices) * 1e3
        lines.append(
            f"| {devices} | {forward / 1e6:.1f} | {backward / 1e6:.2f} | {milliseconds:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(tables())
