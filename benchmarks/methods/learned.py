"""What the methods that `deepfd.train` trains have in common."""

from __future__ import annotations

from typing import Self

from benchmarks.methods.base import Method
from deepfd.detector import Detector
from deepfd.train import Trained
from pipeline.images import Crop, Jpeg


class Learned(Detector, Method):
    """A trained network as a detector."""

    @classmethod
    def of(cls, trained: Trained, method: str, seed: int, crop: Crop, finish: Jpeg | None) -> Self:
        """Make the detector; see `Method.fit` for `seed`, `crop` and `finish`."""
        found = cls(
            trained.network, {"method": method, "seed": seed, **trained.about}, crop, finish
        )
        found.valid_scores = trained.valid_scores
        return found
