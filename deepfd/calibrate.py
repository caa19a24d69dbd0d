"""From a detector's score to a calibrated P(fake): Platt's sigmoid on the logit.

The two numbers are fitted on the valid split and kept in the model's `threshold.json`, as

    "calibration": calibrate.fit(scores, labels)

They change no decision: a score and a threshold that are calibrated alike compare as before.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.errors import UserError

# The logit of a score of exactly 0 or 1: sigmoid(36.7) is the last float64 below 1.
LARGEST_LOGIT = 36.0
# A detector that ranks valid images no better than chance would get a slope of 0 or less, and its
# calibrated scores would rank nothing or backwards; they stay in order, close to 0.5.
SMALLEST_SLOPE = 1e-3


def logits(scores: np.ndarray) -> np.ndarray:
    """Log-odds of scores in [0, 1], clipped to +-`LARGEST_LOGIT`."""
    scores = np.asarray(scores, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.clip(np.log(scores) - np.log1p(-scores), -LARGEST_LOGIT, LARGEST_LOGIT)


def fit(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Fit sigmoid(a logit(score) + b) to the labels, photographs and fakes weighing the same.

    Minimises the cross-entropy to Platt's smoothed targets, (n + 1) / (n + 2) and 1 / (n + 2), so
    that classes which can be told apart wholly do not drive `a` to infinity (Platt 1999; Lin, Lin
    and Weng 2007, https://doi.org/10.1007/s10994-007-5018-6). Balanced, since the share of fakes
    among the pictures someone asks about is not that of the valid split; P(fake) is then what it is
    where one picture in two is a fake.

    Args:
        scores: float (N,) in [0, 1], the detector's P(fake).
        labels: int (N,), 1 = fake, 0 = photograph.

    Returns:
        `a` (>= `SMALLEST_SLOPE`, so that the order stays) and `b`, the two numbers of `apply`.

    Raises:
        UserError: a class is missing, or a score is no probability.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    scores, fake = np.asarray(scores, dtype=np.float64), np.asarray(labels) == 1
    if not ((scores >= 0) & (scores <= 1)).all():
        raise UserError("scores outside [0, 1] or NaN; expected P(fake) of the valid split")
    if fake.all() or not fake.any():
        raise UserError(
            f"{int((~fake).sum())} photographs and {int(fake.sum())} fakes to calibrate on; "
            "expected some of both in the valid split"
        )
    x = logits(scores)
    counts = np.where(fake, fake.sum(), (~fake).sum())
    weights = 0.5 / counts
    targets = np.where(fake, counts + 1, 1) / (counts + 2)

    def loss(ab: np.ndarray) -> tuple[float, np.ndarray]:
        z = ab[0] * x + ab[1]
        # -t log s(z) - (1 - t) log(1 - s(z)) = log(1 + e^z) - t z
        error = weights * (expit(z) - targets)
        value = float((weights * (np.logaddexp(0, z) - targets * z)).sum())
        return value, np.array([(error * x).sum(), error.sum()])

    bounds = [(SMALLEST_SLOPE, None), (None, None)]
    found = minimize(loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=bounds)
    return {"a": float(found.x[0]), "b": float(found.x[1])}


def apply(scores: np.ndarray, calibration: dict[str, Any] | None) -> np.ndarray:
    """Return calibrated P(fake), float64 like `scores`; None changes nothing."""
    scores = np.asarray(scores, dtype=np.float64)
    if calibration is None:
        return scores
    from scipy.special import expit

    return expit(calibration["a"] * logits(scores) + calibration["b"])
