"""What every detector promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

if TYPE_CHECKING:
    import numpy as np

    from pipeline.folds import Corpus, Fold, Images
    from pipeline.images import Crop, Jpeg


@dataclass(frozen=True)
class Asked:
    """One of several fits of a method: its images, its seed, how its photographs were cropped."""

    fold: Fold
    seed: int
    crop: Crop = "center"


class Method(Protocol):
    """A detector of fakes: fitted on a fold's train and valid images, it scores any image.

    It never sees the held-out generator or the test split, and sets no threshold itself.
    """

    # Whether any seed gives the same detector: it is then fitted with one.
    deterministic: ClassVar[bool] = False
    # Whether several of its networks can be trained as one.
    stackable: ClassVar[bool] = False
    # `score` of the valid images of its fit, where that has made them already.
    valid_scores: np.ndarray | None = None

    @classmethod
    def keep(cls) -> None:
        """Keep from now on what is the same of an image in all folds and seeds; here nothing."""

    @classmethod
    def prepare(cls, corpus: Corpus, options: Any, finish: Jpeg | None) -> None:
        """Make what is the same in all folds, before several are fitted; here nothing.

        It must not use a GPU: a process that has used one cannot be forked.
        """

    @classmethod
    def fit(
        cls, train: Images, valid: Images, options: Any, seed: int, log: Path | None = None,
        crop: Crop = "center", finish: Jpeg | None = None,
    ) -> Self:  # fmt: skip
        """Fit on `train`, select on `valid` (training generators only).

        Args:
            train: images to learn from.
            valid: images to select a step or parameter on.
            options: the method's entry of params.yaml, of the type that its registry names.
            seed: the seed of every draw.
            log: folder for live metrics (dvclive), none if None.
            crop: how the photographs it learns from were cropped: pictures from outside are to be
                cropped alike.
            finish: the last step to the pixels of every image, so that pictures from outside, and
                training images that a method changes, end as they do.
        """

    @classmethod
    def fit_several(
        cls, several: Sequence[Asked], options: Any, finish: Jpeg | None = None
    ) -> list[Self]:
        """Fit some networks as one, where a method can (`stackable`); see `deepfd.stacked`."""
        raise NotImplementedError

    def score(self, pixels: np.ndarray) -> np.ndarray:
        """Return P(fake), float64 (N,) in [0, 1], of uint8 (N, H, W, C)."""

    def save(self, folder: Path) -> None:
        """Write the fitted detector (safetensors and JSON, nothing pickled)."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
