"""The ICBM152 template: a T1 image and grey and white matter maps, 1 mm voxels.

The three images ship inside the nilearn wheel; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from nilearn import datasets

TISSUES = ("other", "grey matter", "white matter")
# Coronal slab that no patch is drawn from: thalamus, basal ganglia, temporal lobes.
HELD_OUT_MM = (-38, 2)
SOURCE = {
    "what": "The ICBM152 template (2009a): the average of the MRI scans of 152 brains, 1 mm "
    "voxels. The truth is its tissue maps: a voxel is what it most probably is. It is one volume, "
    "smoother than the scan of a person: the demo compares two layers, and says nothing of how "
    "well a network segments a patient's scan.",
    "citation": "V. S. Fonov, A. C. Evans, K. Botteron, C. R. Almli, R. C. McKinstry, D. L. "
    "Collins and the Brain Development Cooperative Group: Unbiased average age-appropriate "
    "atlases for pediatric studies. NeuroImage 54 (2011), 313-327.",
    "link": "https://doi.org/10.1016/j.neuroimage.2010.07.033",
    "licence": "Copyright (C) 1993-2004 Louis Collins, McConnell Brain Imaging Centre, Montreal "
    "Neurological Institute, McGill University. Its owners let it be used, copied, changed and "
    "passed on for any purpose without fee where this notice stays with it, and promise nothing "
    "of its fitness. The files came with nilearn, whose own description calls the licence unknown.",
}


@dataclass(frozen=True)
class Brain:
    """`t1` (X, Y, Z) float32, zero mean and unit deviation in the brain; `labels` index TISSUES."""

    t1: np.ndarray
    labels: np.ndarray
    brain: np.ndarray
    held_out: slice

    def slab(self) -> tuple[np.ndarray, np.ndarray]:
        """T1 and labels that training never sees."""
        return self.t1[:, self.held_out], self.labels[:, self.held_out]


def load() -> Brain:
    images = [
        datasets.load_mni152_template(resolution=1),
        datasets.load_mni152_gm_template(resolution=1),
        datasets.load_mni152_wm_template(resolution=1),
    ]
    t1, grey, white = (np.asarray(image.dataobj, np.float32) for image in images)
    brain = t1 > 0
    crop = _bounding_box(brain)
    t1, grey, white, brain = t1[crop], grey[crop], white[crop], brain[crop]

    labels = np.argmax(np.stack([1 - grey - white, grey, white]), axis=0).astype(np.int32)
    origin = images[0].affine[1, 3] + crop[1].start  # mm of the first coronal plane
    start, stop = (int(mm - origin) for mm in HELD_OUT_MM)
    seen = np.ones(t1.shape, bool)
    seen[:, start:stop] = False
    mean, std = t1[brain & seen].mean(), t1[brain & seen].std()
    return Brain((t1 - mean) / std, labels, brain, slice(start, stop))


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    found = np.argwhere(mask)
    return tuple(slice(low, high + 1) for low, high in zip(found.min(0), found.max(0), strict=True))


def patches(
    brain: Brain, size: tuple[int, int, int], batch: int, seed: int, rank: int = 0, ranks: int = 1
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Endless batches x (N, 1, *size) float32 and y (N, *size) int32, outside the held-out slab.

    Every patch is centred on a brain voxel as closely as the borders allow. Of the `batch`
    patches of a step, `rank` gets its share: together the ranks get what one alone would.
    """
    rng = np.random.default_rng(seed)
    sides = [slice(0, brain.held_out.start), slice(brain.held_out.stop, brain.t1.shape[1])]
    centres = [np.add(np.argwhere(brain.brain[:, side]), (0, side.start, 0)) for side in sides]
    counts = np.array([len(voxels) for voxels in centres])

    def corner() -> tuple[int, ...]:
        which = rng.choice(len(sides), p=counts / counts.sum())
        low = np.array([0, sides[which].start, 0])
        high = np.array([brain.t1.shape[0], sides[which].stop, brain.t1.shape[2]]) - size
        return tuple(np.clip(rng.choice(centres[which]) - np.array(size) // 2, low, high))

    while True:
        blocks = [
            tuple(slice(at, at + n) for at, n in zip(corner(), size, strict=True))
            for _ in range(batch)
        ][rank::ranks]
        yield (
            np.stack([brain.t1[block][None] for block in blocks]),
            np.stack([brain.labels[block] for block in blocks]),
        )
