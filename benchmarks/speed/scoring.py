"""From scores to the metrics of one cell with their bootstrap, against a scikit-learn loop.

Both give every metric of `benchmarks.metrics` in every resample of fakes and photographs; the loop
calls the functions of scikit-learn that people call, once per resample. What scikit-learn has no
function for is taken from its ROC curve.
"""

from __future__ import annotations

import numpy as np
from sklearn import metrics as sk

from benchmarks.metrics import METRICS, Side, replicates
from benchmarks.speed.turns import OURS, Race, alike

TARGET = 10.0
FAKES, PHOTOGRAPHS = 90, 80  # of a cell of the default profile
BINS = 10


def cell(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw labels and scores of a cell: two classes that overlap."""
    draw = np.random.default_rng(seed)
    labels = np.repeat([1, 0], [FAKES, PHOTOGRAPHS])
    scores = 1 / (1 + np.exp(-draw.normal(np.where(labels == 1, 1.5, -1.5), 1.5)))
    return labels, scores


def counts(labels: np.ndarray, resamples: int, seed: int = 0) -> np.ndarray:
    """Draw how often each image is in each resample, classes apart: int (N, resamples)."""
    draw = np.random.default_rng(seed)
    out = np.zeros((len(labels), resamples), dtype=int)
    for label in (0, 1):
        own = np.flatnonzero(labels == label)
        out[own] = draw.multinomial(len(own), np.full(len(own), 1 / len(own)), resamples).T
    return out


def ours(
    labels: np.ndarray, scores: np.ndarray, threshold: float, weights: np.ndarray
) -> np.ndarray:
    """Return float (metrics, resamples)."""
    fake, real = (
        Side.of(label, scores[labels == label], threshold, weights[labels == label].astype(float))
        for label in (1, 0)
    )
    return replicates(fake, real)


def _of_resample(
    labels: np.ndarray, scores: np.ndarray, threshold: float, weight: np.ndarray
) -> dict[str, float]:
    called = scores >= threshold
    error = scores - labels
    place = np.minimum((scores * BINS).astype(int), BINS - 1)
    ece = np.abs(np.bincount(place, error * weight, BINS)).sum() / weight.sum()
    return {
        "precision": sk.precision_score(labels, called, sample_weight=weight, zero_division=np.nan),
        "accuracy": sk.accuracy_score(labels, called, sample_weight=weight),
        "f1": sk.f1_score(labels, called, sample_weight=weight),
        "ap": sk.average_precision_score(labels, scores, sample_weight=weight),
        "brier": sk.brier_score_loss(labels, scores, sample_weight=weight),
        "ece": float(ece),
    }


def loop(
    labels: np.ndarray, scores: np.ndarray, threshold: float, weights: np.ndarray
) -> np.ndarray:
    """Return the same as `ours`, a resample at a time."""
    out = np.empty((len(METRICS), weights.shape[1]))
    for column, count in enumerate(weights.T):
        drawn = np.repeat(np.arange(len(labels)), count)
        y, s = labels[drawn], scores[drawn]
        fpr, tpr, _ = sk.roc_curve(y, s, drop_intermediate=False)
        best, below = (tpr - fpr).argmax(), np.flatnonzero(fpr + tpr < 1)[-1]
        low, high = 1 - fpr[below] - tpr[below], fpr[below + 1] + tpr[below + 1] - 1
        found = _of_resample(y, s, threshold, np.ones(len(y)))
        even = np.where(y == 1, 1.0, (y == 1).sum() / (y == 0).sum())
        twins = _of_resample(y, s, threshold, even)
        found |= {f"balanced_{name}": value for name, value in twins.items()}
        found |= {
            "recall": sk.recall_score(y, s >= threshold),
            "fpr": sk.recall_score(1 - y, s >= threshold),
            "auc": sk.roc_auc_score(y, s),
            "eer": fpr[below] + low / (low + high) * (fpr[below + 1] - fpr[below]),
            "tpr_at_fpr_01": tpr[fpr <= 0.01].max(),
            "tpr_at_fpr_05": tpr[fpr <= 0.05].max(),
            "oracle_recall": tpr[best],
            "oracle_fpr": fpr[best],
        }
        out[:, column] = [found[name] for name in METRICS]
    return out


def races(resamples: int) -> list[Race]:
    """Build the comparison for one cell of the default profile's size."""
    labels, scores = cell()
    weights = counts(labels, resamples)
    arguments = labels, scores, 0.5, weights
    ways = {OURS: lambda: ours(*arguments), "scikit-learn, a loop": lambda: loop(*arguments)}
    note = f"{len(METRICS)} metrics of {FAKES} fakes and {PHOTOGRAPHS} photographs"
    work = alike(ways, "resamples", resamples)
    return [Race("metrics with bootstrap", ways, work, note, TARGET)]
