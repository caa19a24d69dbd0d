"""Metrics of one cell of the matrix, and their bootstrap intervals.

Everything takes weights, so that a bootstrap resample is a row of counts on scores that were sorted
once: a cell's 1000 resamples cost milliseconds. Positive class: fake (label 1). An image is called
fake iff its score >= the threshold. Tied scores move together, as in scikit-learn. What is not
defined (the precision of a detector that calls nothing fake) is NaN, with its reason, never 0.
"""

from __future__ import annotations

import numpy as np

from pipeline.seeds import seed_for

BINS = 10
CHUNK = 2_000_000
CONFIDENCE = 0.95

NO_FAKES = "no fakes"
NO_REALS = "no photographs"
NONE_CALLED = "nothing was called fake"

# Metric -> the class counts it needs ("fake", "real"); all are rates in [0, 1].
METRICS = {
    "precision": ("fake", "real"),
    "recall": ("fake",),
    "fpr": ("real",),
    "accuracy": ("fake", "real"),
    "f1": ("fake", "real"),
    "ap": ("fake", "real"),
    "auc": ("fake", "real"),
    "eer": ("fake", "real"),
    "tpr_at_fpr_01": ("fake", "real"),
    "tpr_at_fpr_05": ("fake", "real"),
    "ece": ("fake", "real"),
    "brier": ("fake", "real"),
}


def at_threshold(
    labels: np.ndarray, scores: np.ndarray, threshold: float, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Return precision, recall, false-positive rate, accuracy and F1 at a threshold.

    With TP, FP, FN, TN the weighted counts: precision = TP / (TP + FP), recall = TP / (TP + FN),
    fpr = FP / (FP + TN), accuracy = (TP + TN) / all, f1 = 2 TP / (2 TP + FP + FN).

    Args:
        labels: int (N,), 1 = fake.
        scores: float (N,).
        threshold: fake iff score >= threshold.
        weights: float (B, N), one row per resample.

    Returns:
        metric -> float (B,), NaN where a denominator is 0.
    """
    called = scores >= threshold
    fake = labels == 1
    kinds = np.stack([called & fake, called & ~fake, ~called & fake, ~called & ~fake], axis=1)
    tp, fp, fn, tn = (weights @ kinds.astype(np.float64)).T  # floats, since BLAS knows no bools
    return {
        "precision": _ratio(tp, tp + fp),
        "recall": _ratio(tp, tp + fn),
        "fpr": _ratio(fp, fp + tn),
        "accuracy": _ratio(tp + tn, tp + tn + fp + fn),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
    }


def ranking(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics of the order of the scores, over all thresholds.

    With the operating points (fpr_k, tpr_k, precision_k) at the distinct scores, descending, and
    (0, 0) before them:
    ap = sum_k (tpr_k - tpr_(k-1)) precision_k; auc = area under the ROC by the trapezoid rule;
    eer = the fpr at which the ROC, joined by straight lines, crosses fpr = 1 - tpr;
    tpr_at_fpr_x = the largest tpr_k with fpr_k <= x (a point that exists, no interpolation).

    Args:
        labels: int (N,), 1 = fake; both classes present in every row of weights.
        scores: float (N,).
        weights: float (B, N).

    Returns:
        metric -> float (B,).
    """
    order = np.argsort(-scores, kind="stable")
    labels, scores = labels[order], scores[order]
    weights = weights[:, order]
    # Weighted counts of fakes and of all images called fake at each operating point, (B, K).
    tps = np.cumsum(weights * (labels == 1), axis=1)
    called = np.cumsum(weights, axis=1)
    ends = np.append(scores[1:] != scores[:-1], True)  # the last image of each tie
    if not ends.all():
        tps, called = tps[:, ends], called[:, ends]
    fps = called - tps
    fakes, reals = tps[:, -1], fps[:, -1]
    new_tps, new_fps = tps.copy(), fps.copy()
    new_tps[:, 1:] -= tps[:, :-1]
    new_fps[:, 1:] -= fps[:, :-1]
    precision = np.divide(tps, called, out=np.zeros_like(tps), where=called > 0)
    return {
        "ap": np.einsum("bk,bk->b", new_tps, precision) / fakes,
        "auc": np.einsum("bk,bk->b", new_fps, tps - new_tps / 2) / (fakes * reals),
        "eer": _eer(tps, fps, fakes, reals),
        "tpr_at_fpr_01": _tpr_at(0.01, tps, fps, fakes, reals),
        "tpr_at_fpr_05": _tpr_at(0.05, tps, fps, fakes, reals),
    }


def _eer(tps: np.ndarray, fps: np.ndarray, fakes: np.ndarray, reals: np.ndarray) -> np.ndarray:
    """Find where the ROC, from (0, 0) on, crosses fpr = 1 - tpr; counts (B, K), totals (B,)."""
    rows = np.arange(len(tps))
    # fpr + tpr - 1 grows from -1 to 1: the first point where it is not below 0, and the one before.
    beyond = (tps * reals[:, None] + fps * fakes[:, None] < (fakes * reals)[:, None]).sum(axis=1)
    before = beyond - 1  # -1: the point before is the origin
    fpr, tpr = fps[rows, beyond] / reals, tps[rows, beyond] / fakes
    fpr_before = np.where(before < 0, 0.0, fps[rows, before] / reals)
    tpr_before = np.where(before < 0, 0.0, tps[rows, before] / fakes)
    below, above = 1 - fpr_before - tpr_before, fpr + tpr - 1
    return fpr_before + below / (below + above) * (fpr - fpr_before)


def _tpr_at(
    limit: float, tps: np.ndarray, fps: np.ndarray, fakes: np.ndarray, reals: np.ndarray
) -> np.ndarray:
    """Largest tpr among the points with fpr <= limit, 0 where there is none."""
    points = (fps <= (limit * reals + 1e-9)[:, None]).sum(axis=1)
    return np.where(points > 0, tps[np.arange(len(tps)), points - 1] / fakes, 0.0)


def calibration(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Return expected calibration error and Brier score of scores read as P(fake).

    ece = sum over 10 equal bins of [0, 1] of |sum of (score - label) in the bin| / N;
    brier = mean of (score - label)^2.

    Args:
        labels: int (N,), 1 = fake.
        scores: float (N,) in [0, 1].
        weights: float (B, N).

    Returns:
        metric -> float (B,).
    """
    bins = np.clip((scores * BINS).astype(int), 0, BINS - 1)
    excess = np.zeros((len(scores), BINS))
    excess[np.arange(len(scores)), bins] = scores - labels
    total = weights.sum(axis=1)
    return {
        "ece": _ratio(np.abs(weights @ excess).sum(axis=1), total),
        "brier": _ratio(weights @ (scores - labels) ** 2, total),
    }


def measure(
    labels: np.ndarray, scores: np.ndarray, threshold: float, weights: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """All metrics of one cell, once per row of weights (one row of ones by default).

    Args:
        labels: int (N,), 1 = fake; a class may be missing, its metrics are then NaN.
        scores: float (N,).
        threshold: fake iff score >= threshold.
        weights: float (B, N).

    Returns:
        metric -> float (B,).
    """
    if weights is None:
        weights = np.ones((1, len(labels)))
    values = at_threshold(labels, scores, threshold, weights)
    present = {name for name, label in (("fake", 1), ("real", 0)) if (labels == label).any()}
    if present == {"fake", "real"}:
        values |= ranking(labels, scores, weights) | calibration(labels, scores, weights)
    undefined = np.full(len(weights), np.nan)
    return {
        name: values[name] if present.issuperset(needs) else undefined
        for name, needs in METRICS.items()
    }


def why_undefined(labels: np.ndarray, values: dict[str, np.ndarray]) -> str:
    """Say why metrics of a cell are NaN: "precision: nothing was called fake"; "" if none is."""
    missing = [name for name in METRICS if np.isnan(values[name][0])]
    if not missing:
        return ""
    if not (labels == 1).any():
        reason = NO_FAKES
    elif not (labels == 0).any():
        reason = NO_REALS
    else:
        reason = NONE_CALLED
    return f"{', '.join(missing)}: {reason}"


def resample_counts(n: int, resamples: int, base: int, *names: str) -> np.ndarray:
    """Draw how often each of `n` images occurs in each bootstrap resample of size `n`.

    The draw depends on `base` and `names` alone: two methods tested on the same images get the same
    resamples, so that their difference is a paired one.

    Returns:
        float64 (resamples, n), rows sum to n.
    """
    rng = np.random.default_rng(seed_for(base, "bootstrap", *names))
    draws = rng.integers(0, n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    return np.bincount(draws.ravel(), minlength=resamples * n).reshape(resamples, n).astype(float)


def intervals(
    labels: np.ndarray, scores: np.ndarray, threshold: float, counts: np.ndarray
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals at 95 %, the classes resampled apart (stratified).

    Args:
        labels: int (N,), 1 = fake.
        scores: float (N,).
        threshold: fake iff score >= threshold.
        counts: float (B, N) of `resample_counts`, drawn per class.

    Returns:
        metric -> (low, high), over the resamples in which the metric is defined; NaN if in none.
    """
    rows = max(1, CHUNK // max(1, counts.shape[1]))
    parts = [
        measure(labels, scores, threshold, counts[start : start + rows])
        for start in range(0, len(counts), rows)
    ]
    tail = (1 - CONFIDENCE) / 2
    table = np.stack([np.concatenate([part[name] for part in parts]) for name in METRICS])
    low, high = np.full(len(METRICS), np.nan), np.full(len(METRICS), np.nan)
    whole = ~np.isnan(table).any(axis=1)
    low[whole], high[whole] = np.quantile(table[whole], [tail, 1 - tail], axis=1)
    for row in np.flatnonzero(~whole & ~np.isnan(table).all(axis=1)):
        low[row], high[row] = np.nanquantile(table[row], [tail, 1 - tail])
    return {name: (float(a), float(b)) for name, a, b in zip(METRICS, low, high, strict=True)}


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide, NaN where `whole` is 0."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
