"""Folds: which images a fit may see, and which it is tested on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Images:
    """Decoded images with what a detector may know of them.

    Attributes:
        pixels: uint8 (N, H, W, C).
        labels: int8 (N,), 1 = fake (the positive class), 0 = photograph.
        generators: str (N,), the generator's name, `real` for photographs.
        ids: str (N,), the image ids of the manifests.
    """

    pixels: np.ndarray
    labels: np.ndarray
    generators: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: np.ndarray) -> Images:
        """Return the images at `index` (a mask or positions)."""
        return Images(self.pixels[index], self.labels[index], self.generators[index], self.ids[index])
