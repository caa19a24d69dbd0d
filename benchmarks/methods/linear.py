"""A logistic regression on fixed features, kept as plain arrays (nothing pickled)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from safetensors.numpy import load_file, save_file

from benchmarks.methods.base import Method
from pipeline.errors import UserError
from pipeline.images import Crop, Jpeg

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

    from pipeline.folds import Images

MAX_ITERATIONS = 10_000
# Of the largest gradient. scikit-learn's default, 1e-4, stops so early on features as alike as
# those of `srm` and `colour` that another machine's last digits move scores by hundredths.
TOLERANCE = 1e-8


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
    def fit(
        cls, train: Images, valid: Images, options: Any, seed: int, log: Path | None = None,
        crop: Crop = "center", finish: Jpeg | None = None,
    ) -> Self:  # fmt: skip
        """Fit on `train`; `options.c` is the inverse strength of the L2 penalty.

        Nothing else is used: nothing is selected, drawn or logged.

        Raises:
            UserError: the solver did not converge.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.preprocessing import StandardScaler

        features = cls.features(train.pixels)
        scaler = StandardScaler().fit(features)
        model = regression(options.c)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            try:
                model.fit(scaler.transform(features), train.labels)
            except ConvergenceWarning as warning:
                raise UserError(
                    f"logistic regression did not converge in {MAX_ITERATIONS} iterations with "
                    f"c = {options.c} ({warning}); lower `c` of the method in params.yaml"
                ) from None
        return cls(scaler.mean_, scaler.scale_, model.coef_[0], float(model.intercept_[0]))

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
