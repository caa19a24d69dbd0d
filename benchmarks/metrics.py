"""Metrics of one cell of the matrix.

Everything takes weights, so that a bootstrap resample is a column of counts on scores that were
sorted once: a cell's 1000 resamples cost milliseconds. Each resample has its own threshold. The
two classes are summed up apart (`Side`): the photographs, many and the same for every generator,
once per detector. Positive class: fake (label 1). An image is called fake iff its score >= the
threshold. Tied scores move together, as in scikit-learn. A metric that depends on the share of
fakes among the test images has a twin, `balanced_...`, in which all fakes together count as much
as all photographs together. What is not defined (the precision of a detector that calls nothing
fake) is NaN, with its reason, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 10
# Resamples are measured so many counts at a time: about what a core's cache holds.
CHUNK = 100_000

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
    "balanced_precision",
    "balanced_accuracy",
    "balanced_f1",
    "balanced_ap",
    "balanced_ece",
    "balanced_brier",
)
# Of each class apart: a share of its images. (`tpr_at_fpr_05` is one of the fakes.)
OF_FAKES = ("recall", "tpr_at_fpr_01", "tpr_at_fpr_05", "oracle_recall")
OF_PHOTOGRAPHS = ("fpr", "oracle_fpr")
# What moves with the threshold alone, and so with the photographs that it was set on.
AT_THRESHOLD = (
    *("recall", "fpr", "precision", "accuracy", "f1"),
    *("balanced_precision", "balanced_accuracy", "balanced_f1"),
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
    def of(
        cls, label: int, scores: np.ndarray, threshold: float | np.ndarray, weights: np.ndarray
    ) -> Side:
        """Sum one class up.

        Args:
            label: of all these images, 1 = fake.
            scores: float (n,), n > 0.
            threshold: fake iff score >= threshold; one, or float (B,), one per resample.
            weights: float (n, B), one column per resample.
        """
        order = np.argsort(-scores, kind="stable")
        scores, weights = scores[order], weights[order]
        above = np.zeros((len(scores) + 1, weights.shape[1]))
        np.cumsum(weights, axis=0, out=above[1:])
        excess = np.zeros((BINS, len(scores)))
        bins = np.clip((scores * BINS).astype(int), 0, BINS - 1)
        excess[bins, np.arange(len(scores))] = scores - label
        called = len(scores) - np.searchsorted(scores[::-1], threshold, side="left")
        return cls(
            scores,
            above,
            above[called, np.arange(weights.shape[1])],
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


def at_threshold(fake: Side, real: Side, scale: np.ndarray | float = 1.0) -> dict[str, np.ndarray]:
    """Return precision, accuracy and F1 at the threshold.

    With TP, FP, FN, TN the weighted counts: precision = TP / (TP + FP), accuracy = (TP + TN) / all,
    f1 = 2 TP / (2 TP + FP + FN).

    Args:
        fake: the fakes.
        real: the photographs.
        scale: what each photograph counts beside a fake, (B,).

    Returns:
        metric -> float (B,), NaN where a denominator is 0.
    """
    tp, fp = fake.called, real.called * scale
    fn, tn = fake.total - tp, real.total * scale - fp
    return {
        "precision": _ratio(tp, tp + fp),
        "accuracy": _ratio(tp + tn, tp + tn + fp + fn),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
    }


def ranking(fake: Side, real: Side) -> dict[str, np.ndarray]:
    """Metrics of the order of the scores, over all thresholds.

    With the operating points (fpr_k, tpr_k, precision_k) at the distinct scores, descending, and
    (0, 0) before them:
    ap = sum_k (tpr_k - tpr_(k-1)) precision_k; balanced_ap the same with precision_k =
    tpr_k / (tpr_k + fpr_k), as if there were as many fakes as photographs;
    auc = area under the ROC by the trapezoid rule;
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
    tpr, fpr = tps * reals, fps * fakes  # times fakes * reals: whole numbers, so ties are exact
    best, oracle_recall, oracle_fpr = _oracle(tpr, fpr, fakes * reals)
    return {
        "ap": np.einsum("kb,kb->b", new_tps, _share(tps, fps)) / fakes,
        "balanced_ap": np.einsum("kb,kb->b", new_tps, _share(tpr, fpr)) / fakes,
        "auc": np.einsum("kb,kb->b", new_fps, tps - new_tps / 2) / (fakes * reals),
        "eer": _eer(tpr, fpr, fakes * reals),
        "tpr_at_fpr_01": _tpr_at(0.01, tps, fps, fakes, reals),
        "tpr_at_fpr_05": _tpr_at(0.05, tps, fps, fakes, reals),
        "oracle_recall": oracle_recall,
        "oracle_fpr": oracle_fpr,
        "oracle_threshold": np.where(best < 0, np.inf, values[best // 2]),
    }


def _share(part: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Share of `part` in the two together, 0 where both are 0."""
    whole = part + rest
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


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


def calibration(fake: Side, real: Side, scale: np.ndarray | float = 1.0) -> dict[str, np.ndarray]:
    """Return expected calibration error and Brier score of scores read as P(fake).

    ece = sum over 10 equal bins of [0, 1] of |sum of (score - label) in the bin| / N;
    brier = mean of (score - label)^2.

    Args:
        fake: the fakes.
        real: the photographs.
        scale: what each photograph counts beside a fake, (B,).

    Returns:
        metric -> float (B,).
    """
    total = fake.total + real.total * scale
    return {
        "ece": np.abs(fake.excess + real.excess * scale).sum(axis=0) / total,
        "brier": (fake.squares + real.squares * scale) / total,
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
        even = fake.total / real.total
        twins = at_threshold(fake, real, even) | calibration(fake, real, even)
        found |= {f"balanced_{name}": value for name, value in twins.items()}
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

    >>> found = measure(np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.9]), threshold=0.5)
    >>> [float(found[name][0]) for name in ("recall", "fpr", "auc")]
    [0.5, 0.5, 0.75]
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
    """Say why metrics of a cell are NaN: "precision: nothing was called fake"; "" if none is.

    A balanced twin is where its metric is, and is not named.
    """
    missing = [name for name in METRICS if np.isnan(values[name][0])]
    missing = [name for name in missing if not name.startswith("balanced_")]
    if not missing:
        return ""
    return f"{', '.join(missing)}: {NONE_CALLED if n_fake else NO_FAKES}"


def replicates(fake: Side | None, real: Side | None) -> np.ndarray:
    """Every metric in every resample.

    Args:
        fake: the fakes under the weights of `benchmarks.resample`, None where there are none.
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


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide, NaN where `whole` is 0."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
