"""Metrics of one cell of the matrix, and their bootstrap intervals.

Everything takes weights, so that a bootstrap resample is a column of counts on scores that were
sorted once: a cell's 1000 resamples cost milliseconds. Positive class: fake (label 1). An image is
called fake iff its score >= the threshold. Tied scores move together, as in scikit-learn. What is
not defined (the precision of a detector that calls nothing fake) is NaN, with its reason, never 0.
"""

from __future__ import annotations

import numpy as np

from pipeline.seeds import seed_for

BINS = 10
# Resamples are measured so many counts at a time: about what a core's cache holds.
CHUNK = 100_000
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
    "oracle_recall": ("fake", "real"),
    "oracle_fpr": ("fake", "real"),
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
        weights: float (N, B), one column per resample.

    Returns:
        metric -> float (B,), NaN where a denominator is 0.
    """
    called = scores >= threshold
    fake = labels == 1
    kinds = np.stack([called & fake, called & ~fake, ~called & fake, ~called & ~fake])
    tp, fp, fn, tn = kinds.astype(np.float64) @ weights  # floats, since BLAS knows no bools
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
    tpr_at_fpr_x = the largest tpr_k with fpr_k <= x (a point that exists, no interpolation);
    oracle_recall and oracle_fpr = tpr_k and fpr_k at the point of the largest tpr_k - fpr_k (of
    several the one that calls the fewest fake): what the best threshold would give, chosen with
    the labels of these very images, as no detector can.

    Args:
        labels: int (N,), 1 = fake; both classes present in every column of weights.
        scores: float (N,).
        weights: float (N, B).

    Returns:
        metric -> float (B,); `oracle_threshold` too, infinite where nothing is best called fake.
    """
    order = np.argsort(-scores, kind="stable")
    labels, scores = labels[order], scores[order]
    weights = weights[order]
    # Weighted counts of fakes and of all images called fake at each operating point, (K, B).
    tps = np.cumsum(weights * (labels == 1)[:, None], axis=0)
    called = np.cumsum(weights, axis=0)
    ends = np.append(scores[1:] != scores[:-1], True)  # the last image of each tie
    if not ends.all():
        tps, called = tps[ends], called[ends]
    fps = called - tps
    fakes, reals = tps[-1], fps[-1]
    new_tps, new_fps = tps.copy(), fps.copy()
    new_tps[1:] -= tps[:-1]
    new_fps[1:] -= fps[:-1]
    precision = np.divide(tps, called, out=np.zeros_like(tps), where=called > 0)
    tpr, fpr = tps * reals, fps * fakes  # times fakes * reals: whole numbers, so ties are exact
    best, oracle_recall, oracle_fpr = _oracle(tpr, fpr, fakes * reals)
    return {
        "ap": np.einsum("kb,kb->b", new_tps, precision) / fakes,
        "auc": np.einsum("kb,kb->b", new_fps, tps - new_tps / 2) / (fakes * reals),
        "eer": _eer(tpr, fpr, fakes * reals),
        "tpr_at_fpr_01": _tpr_at(0.01, tps, fps, fakes, reals),
        "tpr_at_fpr_05": _tpr_at(0.05, tps, fps, fakes, reals),
        "oracle_recall": oracle_recall,
        "oracle_fpr": oracle_fpr,
        "oracle_threshold": np.where(best < 0, np.inf, scores[ends][best]),
    }


def _at(points: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Take one point (K, B) of each resample; index -1 is the origin, where nothing is called."""
    return np.where(index < 0, 0.0, points[index, np.arange(points.shape[1])])


def _oracle(
    tpr: np.ndarray, fpr: np.ndarray, scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the point of the largest tpr - fpr; rates (K, B) times `scale` (B,)."""
    gain = tpr - fpr
    best = gain.argmax(axis=0)
    best = np.where(_at(gain, best) > 0, best, -1)
    return best, _at(tpr, best) / scale, _at(fpr, best) / scale


def _eer(tpr: np.ndarray, fpr: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Find where the ROC, from (0, 0) on, crosses fpr = 1 - tpr; rates (K, B) times `scale`."""
    # fpr + tpr - 1 grows from -1 to 1: the first point where it is not below 0, and the one before.
    beyond = (tpr + fpr < scale).sum(axis=0)
    after, before = ([_at(rate, i) / scale for rate in (fpr, tpr)] for i in (beyond, beyond - 1))
    below, above = 1 - before[0] - before[1], after[0] + after[1] - 1
    return before[0] + below / (below + above) * (after[0] - before[0])


def _tpr_at(
    limit: float, tps: np.ndarray, fps: np.ndarray, fakes: np.ndarray, reals: np.ndarray
) -> np.ndarray:
    """Largest tpr among the points with fpr <= limit, 0 where there is none; counts (K, B)."""
    points = (fps <= limit * reals + 1e-9).sum(axis=0)
    return _at(tps, points - 1) / fakes


def calibration(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Return expected calibration error and Brier score of scores read as P(fake).

    ece = sum over 10 equal bins of [0, 1] of |sum of (score - label) in the bin| / N;
    brier = mean of (score - label)^2.

    Args:
        labels: int (N,), 1 = fake.
        scores: float (N,) in [0, 1].
        weights: float (N, B).

    Returns:
        metric -> float (B,).
    """
    bins = np.clip((scores * BINS).astype(int), 0, BINS - 1)
    excess = np.zeros((BINS, len(scores)))
    excess[bins, np.arange(len(scores))] = scores - labels
    total = weights.sum(axis=0)
    return {
        "ece": _ratio(np.abs(excess @ weights).sum(axis=0), total),
        "brier": _ratio((scores - labels) ** 2 @ weights, total),
    }


def measure(
    labels: np.ndarray, scores: np.ndarray, threshold: float, weights: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """All metrics of one cell, once per column of weights (one column of ones by default).

    Args:
        labels: int (N,), 1 = fake; a class may be missing, its metrics are then NaN.
        scores: float (N,).
        threshold: fake iff score >= threshold.
        weights: float (N, B).

    Returns:
        metric -> float (B,), and `oracle_threshold`.
    """
    if weights is None:
        weights = np.ones((len(labels), 1))
    values = at_threshold(labels, scores, threshold, weights)
    present = {name for name, label in (("fake", 1), ("real", 0)) if (labels == label).any()}
    if present == {"fake", "real"}:
        values |= ranking(labels, scores, weights) | calibration(labels, scores, weights)
    undefined = np.full(weights.shape[1], np.nan)
    found = {
        name: values[name] if present.issuperset(needs) else undefined
        for name, needs in METRICS.items()
    }
    return found | {"oracle_threshold": values.get("oracle_threshold", undefined)}


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
    """Draw how often each of `n` things occurs in each bootstrap resample of size `n`.

    The draw depends on `base` and `names` alone: two methods tested on the same images get the same
    resamples, so that their difference is a paired one.

    Returns:
        float64 (n, resamples), columns sum to n.
    """
    rng = np.random.default_rng(seed_for(base, "bootstrap", *names))
    draws = rng.integers(0, n, size=(resamples, n)) * resamples + np.arange(resamples)[:, None]
    return np.bincount(draws.ravel(), minlength=n * resamples).reshape(n, resamples).astype(float)


def replicates(
    labels: np.ndarray, scores: np.ndarray, threshold: float, counts: np.ndarray
) -> np.ndarray:
    """Every metric in every resample.

    Args:
        labels: int (N,), 1 = fake.
        scores: float (N,).
        threshold: fake iff score >= threshold.
        counts: float (N, B) of `resample_counts`, drawn per class (stratified).

    Returns:
        float (metrics, B), in the order of METRICS; NaN where a metric is not defined.
    """
    step = max(1, CHUNK // max(1, len(counts)))
    parts = [
        measure(labels, scores, threshold, counts[:, start : start + step])
        for start in range(0, counts.shape[1], step)
    ]
    return np.stack([np.concatenate([part[name] for part in parts]) for name in METRICS])


def over_seeds(tables: np.ndarray, seed_counts: np.ndarray) -> np.ndarray:
    """Second level of the hierarchical bootstrap: resample the seeds, and average over them.

    All seeds are tested on the same images, so a resample of the images is one for all of them:
    replicate b is the mean, over the seeds drawn in b, of the metric in image resample b.

    Args:
        tables: float (S, ..., B), the replicates of each seed, on the same image resamples.
        seed_counts: float (S, B) of `resample_counts`.

    Returns:
        float (..., B); NaN where the metric of a seed that was drawn is.
    """
    drawn = seed_counts.reshape(len(tables), *(1,) * (tables.ndim - 2), -1)
    return np.where(drawn > 0, tables * drawn, 0.0).sum(axis=0) / len(tables)


def interval(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Percentile intervals at 95 % of replicates (..., B), over those that are defined.

    Returns:
        low and high, float (...); NaN where no replicate is defined.
    """
    tail = (1 - CONFIDENCE) / 2
    low, high = np.full(table.shape[:-1], np.nan), np.full(table.shape[:-1], np.nan)
    gaps = np.isnan(table)
    whole, none = ~gaps.any(axis=-1), gaps.all(axis=-1)
    # Quantiles with gaps are slow, and few metrics have any.
    for rows, quantile in ((whole, np.quantile), (~whole & ~none, np.nanquantile)):
        if rows.any():
            low[rows], high[rows] = quantile(table[rows], [tail, 1 - tail], axis=-1)
    return low, high


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide, NaN where `whole` is 0."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
