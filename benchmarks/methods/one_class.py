"""`one_class`: the distance of a picture from photographs; no fake is seen in fitting.

A boundary learned from GANs is one-sided: a generator that deviates from photographs in another
direction than they, as a diffusion model does, lies beyond it on the wrong side. The Mahalanobis
distance (Mahalanobis 1936), in the principal components of the luma's `srm` features over the
training photographs, has no such side.

Chroma made it worse and standardising the features too (valid images, docs/methods.md): in the
square roots of shares all bins vary alike, and what is rare in photographs counts as they do it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from pydantic import PositiveInt
from safetensors.numpy import load_file, save_file

from benchmarks.methods.base import Method
from benchmarks.methods.srm import luma_features
from pipeline.errors import UserError
from pipeline.images import Crop, Jpeg
from pipeline.options import Model

if TYPE_CHECKING:
    from pipeline.folds import Corpus, Images

QUANTILE = 0.95


class Options(Model):
    """What params.yaml can say of it."""

    method: Literal["one_class"]
    # Principal components of the photographs' features.
    dimensions: PositiveInt = 60


class OneClass(Method):
    """Mean, principal components and a scale of distances. It draws nothing: one seed is enough.

    Attributes:
        mean: float64 (624,), mean of the training photographs' features.
        whitening: float64 (624, K): principal components over their standard deviations.
        scale: the squared distance that 95 % of the valid photographs stay below.
    """

    deterministic = True

    def __init__(self, mean: np.ndarray, whitening: np.ndarray, scale: float) -> None:
        self.mean = mean
        self.whitening = whitening
        self.scale = scale

    @classmethod
    def prepare(cls, corpus: Corpus, options: Options, finish: Jpeg | None) -> None:
        """Make the features of what is learned from and scored before the fits, by all cores."""
        images = corpus.images
        luma_features(images.pixels[(corpus.split != "train") | (images.labels == 0)])

    @classmethod
    def fit(
        cls, train: Images, valid: Images, options: Options, seed: int, log: Path | None = None,
        crop: Crop = "center", finish: Jpeg | None = None,
    ) -> Self:  # fmt: skip
        """Fit on the photographs of `train`, take the scale from those of `valid`.

        No fake is used, nor anything else.

        Raises:
            UserError: fewer than two training photographs per dimension: fitted so closely,
                those that it learned from would all be equally far.
        """
        from sklearn.decomposition import PCA

        photographs = train.pixels[train.labels == 0]
        if len(photographs) < 2 * options.dimensions:
            raise UserError(
                f"one_class has {len(photographs)} training photographs for {options.dimensions} "
                f"dimensions; expected {2 * options.dimensions} or more: lower `dimensions` of the "
                "method in params.yaml or add photographs"
            )
        # All singular values, so that the result does not hang on a random start.
        pca = PCA(options.dimensions, svd_solver="full").fit(luma_features(photographs))
        spread = np.sqrt(np.maximum(pca.explained_variance_, np.finfo(float).tiny))
        model = cls(pca.mean_, pca.components_.T / spread, 1.0)
        apart = model.squared_distances(valid.pixels[valid.labels == 0])
        model.scale = float(np.quantile(apart, QUANTILE))
        return model

    def squared_distances(self, pixels: np.ndarray) -> np.ndarray:
        """Return squared Mahalanobis distances, float64 (N,), of uint8 (N, H, W, 1 or 3)."""
        return (((luma_features(pixels) - self.mean) @ self.whitening) ** 2).sum(axis=1)

    def score(self, pixels: np.ndarray) -> np.ndarray:
        """Return d^2 / (d^2 + scale), float64 (N,).

        In the order of the distances and in [0, 1), but no probability: without fakes there is none
        to be had. One half is where 95 % of photographs lie below. (A chi-square probability would
        be 1.0 in floating point for everything far away, all of it equal.)
        """
        squared = self.squared_distances(pixels)
        return squared / (squared + self.scale)

    def save(self, folder: Path) -> None:
        """Write model.safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {"mean": self.mean, "whitening": self.whitening, "scale": np.array([self.scale])}
        # safetensors writes memory as it lies.
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        save_file(arrays, folder / "model.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        arrays = load_file(folder / "model.safetensors")
        return cls(arrays["mean"], arrays["whitening"], float(arrays["scale"][0]))
