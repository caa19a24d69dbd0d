"""Metrics of one cell of the matrix, and their bootstrap intervals.

Everything takes weights, so that a bootstrap resample is a column of counts on scores that were
sorted once: a cell's 1000 resamples cost milliseconds. The two classes are summed up apart
(`Side`): the photographs, many and the same for every generator, once per detector. Positive class:
fake (label 1). An image is called fake iff its score >= the threshold. Tied scores move together,
as in scikit-learn. What is not defined (the precision of a detector that calls nothing fake) is
NaN, with its reason, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.seeds import seed_for

BINS = 10
# Resamples are measured so many counts at a time: about what a core's cache holds.
CHUNK = 100_000
CONFIDENCE = 0.95

NO_FAKES = "no fakes"
NONE_CALLED = "nothing was called fake"

# All are rates in [0, 1].
METRICS = (
    "precision",
    "recall",
    "fpr",
    "accuracy",
    "f1",
    "ap",
    "auc",
    "eer",
    "tpr_at_fpr_01",
    "tpr_at_fpr_05",
    "oracle_recall",
    "oracle_fpr",
    "ece",
    "brier",
)


@dataclass(frozen=True)
class Side:
    """The images of one class and, per resample, what is to be known of their scores.

    Attributes:
        scores: float (n,), descending.
        above: float (n + 1, B), weight of the first k images, k = 0 .. n.
        called: float (B,), weight of the images at or above the threshold.
        excess: float (10, B), sum of score - label in each of 10 equal bins of [0, 1].
        squares: float (B,), sum of (score - label)^2.
    """

    scores: np.ndarray
    above: np.ndarray
    called: np.ndarray
    excess: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, label: int, scores: np.ndarray, threshold: float, weights: np.ndarray) -> Side:
        """Sum one class up.

        Args:
            label: of all these images, 1 = fake.
            scores: float (n,), n > 0.
            threshold: fake iff score >= threshold.
            weights: float (n, B), one column per resample.
        """
        order = np.argsort(-scores, kind="stable")
        scores, weights = scores[order], weights[order]
        above = np.zeros((len(scores) + 1, weights.shape[1]))
        np.cumsum(weights, axis=0, out=above[1:])
        excess = np.zeros((BINS, len(scores)))
        bins = np.clip((scores * BINS).astype(int), 0, BINS - 1)
        excess[bins, np.arange(len(scores))] = scores - label
        return cls(
            scores,
            above,
            above[np.count_nonzero(scores >= threshold)],
            excess @ weights,
            (scores - label) ** 2 @ weights,
        )

    @property
    def total(self) -> np.ndarray:
        """Weight of all images, (B,)."""
        return self.above[-1]

    def columns(self, part: slice) -> Side:
        """Return the same of some resamples."""
        sums = (self.above, self.called, self.excess, self.squares)
        return Side(self.scores, *(array[..., part] for array in sums))


def at_threshold(fake: Side, real: Side) -> dict[str, np.ndarray]:
    """Return precision, accuracy and F1 at the threshold.

    With TP, FP, FN, TN the weighted counts: precision = TP / (TP + FP), accuracy = (TP + TN) / all,
    f1 = 2 TP / (2 TP + FP + FN).

    Returns:
        metric -> float (B,), NaN where a denominator is 0.
    """
    tp, fp = fake.called, real.called
    fn, tn = fake.total - tp, real.total - fp
    return {
        "precision": _ratio(tp, tp + fp),
        "accuracy": _ratio(tp + tn, tp + tn + fp + fn),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
    }


def ranking(fake: Side, real: Side) -> dict[str, np.ndarray]:
    """Metrics of the order of the scores, over all thresholds.

    With the operating points (fpr_k, tpr_k, precision_k) at the distinct scores, descending, and
    (0, 0) before them:
    ap = sum_k (tpr_k - tpr_(k-1)) precision_k; auc = area under the ROC by the trapezoid rule;
    eer = the fpr at which the ROC, joined by straight lines, crosses fpr = 1 - tpr;
    tpr_at_fpr_x = the largest tpr_k with fpr_k <= x (a point that exists, no interpolation);
    oracle_recall and oracle_fpr = tpr_k and fpr_k at the point of the largest tpr_k - fpr_k (of
    several the one that calls the fewest fake): what the best threshold would give, chosen with
    the labels of these very images, as no detector can.

    Returns:
        metric -> float (B,); `oracle_threshold` too, infinite where nothing is best called fake.
    """
    # The ROC bends only at scores of fakes, and runs level between two of them: the points just
    # before each, at each, and the end are enough. How many of each class are called fake there:
    ends = np.append(fake.scores[1:] != fake.scores[:-1], True)  # the last fake of each tie
    values, fakes_at = fake.scores[ends], np.flatnonzero(ends) + 1
    rising = real.scores[::-1]
    reals_before = len(rising) - np.searchsorted(rising, values, side="right")
    reals_at = len(rising) - np.searchsorted(rising, values, side="left")
    fakes_before = np.append(0, fakes_at[:-1])
    tps = fake.above[np.append(np.column_stack([fakes_before, fakes_at]), fakes_at[-1])]
    fps = real.above[np.append(np.column_stack([reals_before, reals_at]), len(rising))]  # (K, B)

    fakes, reals = fake.total, real.total
    new_tps, new_fps = tps.copy(), fps.copy()
    new_tps[1:] -= tps[:-1]
    new_fps[1:] -= fps[:-1]
    called = tps + fps
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
        "oracle_threshold": np.where(best < 0, np.inf, values[best // 2]),
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


def calibration(fake: Side, real: Side) -> dict[str, np.ndarray]:
    """Return expected calibration error and Brier score of scores read as P(fake).

    ece = sum over 10 equal bins of [0, 1] of |sum of (score - label) in the bin| / N;
    brier = mean of (score - label)^2.

    Returns:
        metric -> float (B,).
    """
    total = fake.total + real.total
    return {
        "ece": np.abs(fake.excess + real.excess).sum(axis=0) / total,
        "brier": (fake.squares + real.squares) / total,
    }


def combine(fake: Side | None, real: Side | None) -> dict[str, np.ndarray]:
    """All metrics of one cell, once per resample.

    Args:
        fake: the fakes, None where there are none; metrics that need them are then NaN.
        real: the photographs, likewise.

    Returns:
        metric -> float (B,), and `oracle_threshold`.
    """
    undefined = np.full((fake or real).total.shape, np.nan)
    found = dict.fromkeys((*METRICS, "oracle_threshold"), undefined)
    if fake:
        found["recall"] = fake.called / fake.total
    if real:
        found["fpr"] = real.called / real.total
    if fake and real:
        found |= at_threshold(fake, real) | ranking(fake, real) | calibration(fake, real)
    return found


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
    fake, real = (
        Side.of(label, scores[labels == label], threshold, weights[labels == label])
        if (labels == label).any()
        else None
        for label in (1, 0)
    )
    return combine(fake, real)


def why_undefined(n_fake: int, values: dict[str, np.ndarray]) -> str:
    """Say why metrics of a cell are NaN: "precision: nothing was called fake"; "" if none is."""
    missing = [name for name in METRICS if np.isnan(values[name][0])]
    if not missing:
        return ""
    return f"{', '.join(missing)}: {NONE_CALLED if n_fake else NO_FAKES}"


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


def replicates(fake: Side | None, real: Side | None) -> np.ndarray:
    """Every metric in every resample.

    Args:
        fake: the fakes under the counts of `resample_counts`, None where there are none.
        real: the photographs under theirs (the classes are drawn apart), likewise.

    Returns:
        float (metrics, B), in the order of METRICS; NaN where a metric is not defined.
    """
    resamples = len((fake or real).total)
    step = max(1, CHUNK // (len(fake.scores) if fake else 1))
    parts = [
        combine(*(side and side.columns(slice(start, start + step)) for side in (fake, real)))
        for start in range(0, resamples, step)
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
