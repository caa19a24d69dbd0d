"""A logistic regression on fixed features, kept as plain arrays (nothing pickled).

With a `treatment` it learns from treated copies of the training pictures as well, as `deepfd` does
(`deepfd.treatment`): on the same footing it shows what of a method is its features and what is what
it was trained on.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from pydantic import PositiveFloat
from safetensors.numpy import load_file, save_file

from benchmarks.methods.base import Method
from deepfd.options import Treatment
from pipeline.errors import UserError
from pipeline.images import Crop, Jpeg
from pipeline.options import Model

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

    from pipeline.folds import Corpus, Images

MAX_ITERATIONS = 10_000
# Of the largest gradient. scikit-learn's default, 1e-4, stops so early on features as alike as
# those of `srm` and `colour` that another machine's last digits move scores by hundredths.
TOLERANCE = 1e-8


class Options(Model):
    """What params.yaml can say of every method on fixed features."""

    # Inverse strength of the L2 penalty.
    c: PositiveFloat
    # What copies of the training pictures meet; none are made if there is none.
    treatment: Treatment | None = None


def regression(c: float) -> LogisticRegression:
    """Return an unfitted class-balanced logistic regression that is brought to its optimum.

    Args:
        c: inverse strength of the L2 penalty.
    """
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=c, class_weight="balanced", tol=TOLERANCE, max_iter=MAX_ITERATIONS)


class Linear(Method):
    """Standardised features and L2-regularised, class-balanced logistic regression.

    A detector is a subclass with its `features`. It draws nothing: one seed is enough.

    Attributes:
        mean: float64 (D,), mean of the training features.
        scale: float64 (D,), their standard deviation (1 where a feature is constant).
        weight: float64 (D,), coefficients on the standardised features.
        bias: the intercept.
    """

    deterministic = True
    # Whether features are kept by picture, and worth making before the fits, by all cores.
    kept: ClassVar[bool] = False

    def __init__(
        self, mean: np.ndarray, scale: np.ndarray, weight: np.ndarray, bias: float
    ) -> None:
        self.mean = mean
        self.scale = scale
        self.weight = weight
        self.bias = bias

    @staticmethod
    def features(pixels: np.ndarray) -> np.ndarray:
        """Turn uint8 (N, H, W, C) into float64 (N, D)."""
        raise NotImplementedError

    @classmethod
    def prepare(cls, corpus: Corpus, options: Any, finish: Jpeg | None) -> None:
        """Make the features of every picture before the fits, where they are kept."""
        if cls.kept:
            train = corpus.images.subset(corpus.split == "train")
            cls._learned_from(train, options.treatment, finish)
            cls.features(corpus.images.pixels)

    @classmethod
    def fit(
        cls, train: Images, valid: Images, options: Any, seed: int, log: Path | None = None,
        crop: Crop = "center", finish: Jpeg | None = None,
    ) -> Self:  # fmt: skip
        """Fit on `train`; `options.c` is the inverse strength of the L2 penalty.

        Nothing else is used: nothing is selected, drawn or logged. Treated copies together weigh
        `treatment.share`, as they do in a batch of `deepfd`.

        Raises:
            UserError: the solver did not converge.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.preprocessing import StandardScaler

        features, labels, weight = cls._learned_from(train, options.treatment, finish)
        scaler = StandardScaler().fit(features, sample_weight=weight)
        model = regression(options.c)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            try:
                model.fit(scaler.transform(features), labels, sample_weight=weight)
            except ConvergenceWarning as warning:
                raise UserError(
                    f"logistic regression did not converge in {MAX_ITERATIONS} iterations with "
                    f"c = {options.c} ({warning}); lower `c` of the method in params.yaml"
                ) from None
        return cls(scaler.mean_, scaler.scale_, model.coef_[0], float(model.intercept_[0]))

    @classmethod
    def _learned_from(
        cls, train: Images, treatment: Treatment | None, finish: Jpeg | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return features, labels and weights, which for each picture sum to 1; None: all 1."""
        if treatment is None:
            return cls.features(train.pixels), train.labels, None
        from deepfd.treatment import treated

        copies = [treated(train, treatment, copy, finish) for copy in range(treatment.variants)]
        features = np.vstack([cls.features(pixels) for pixels in (train.pixels, *copies)])
        shares = [1 - treatment.share, *[treatment.share / len(copies)] * len(copies)]
        return features, np.tile(train.labels, len(shares)), np.repeat(shares, len(train))

    def score(self, pixels: np.ndarray) -> np.ndarray:
        """Return P(fake), float64 (N,): sigmoid(w . (features - mean) / scale + b)."""
        from scipy.special import expit

        return expit((self.features(pixels) - self.mean) / self.scale @ self.weight + self.bias)

    def save(self, folder: Path) -> None:
        """Write model.safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {"mean": self.mean, "scale": self.scale, "weight": self.weight}
        save_file(arrays | {"bias": np.array([self.bias])}, folder / "model.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        arrays = load_file(folder / "model.safetensors")
        return cls(arrays["mean"], arrays["scale"], arrays["weight"], float(arrays["bias"][0]))
