"""Every metric against scikit-learn or scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from benchmarks import metrics
from benchmarks.resample import draw_weights


def cell(seed: int, n_real: int = 80, n_fake: int = 120, ties: bool = False):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [n_real, n_fake])
    scores = 1 / (1 + np.exp(-rng.normal(labels * 1.2 - 0.4)))
    return labels, np.round(scores, 1) if ties else scores


def replicates(labels, scores, counts, threshold=0.5):
    sides = (
        metrics.Side.of(label, scores[labels == label], threshold, counts[labels == label])
        for label in (1, 0)
    )
    return metrics.replicates(*sides)


def reference(labels, scores, threshold, weights=None) -> dict[str, float]:
    called = scores >= threshold
    kwargs = {"sample_weight": weights, "zero_division": np.nan}
    fpr, tpr, thresholds = sk.roc_curve(
        labels, scores, sample_weight=weights, drop_intermediate=False
    )
    # scikit-learn knows no weights here: repeat the images instead.
    repeats = np.ones(len(labels), int) if weights is None else weights.astype(int)
    y, p = np.repeat(labels, repeats), np.repeat(scores, repeats)
    share, confidence = calibration_curve(y, p, n_bins=metrics.BINS)
    bins = np.searchsorted(np.linspace(0, 1, metrics.BINS + 1)[1:-1], p)  # as calibration_curve
    filled = np.bincount(bins, minlength=metrics.BINS) / len(p)
    ece = (filled[filled > 0] * np.abs(share - confidence)).sum()
    gain = tpr - fpr
    best = np.flatnonzero(gain > gain.max() - 1e-12)[0]  # rates of equal gain differ by rounding
    return {
        "precision": sk.precision_score(labels, called, **kwargs),
        "recall": sk.recall_score(labels, called, **kwargs),
        "fpr": 1 - sk.recall_score(labels, called, pos_label=0, **kwargs),
        "accuracy": sk.accuracy_score(labels, called, sample_weight=weights),
        "f1": sk.f1_score(labels, called, **kwargs),
        "ap": sk.average_precision_score(labels, scores, sample_weight=weights),
        "auc": sk.roc_auc_score(labels, scores, sample_weight=weights),
        "eer": brentq(lambda x: 1 - x - interp1d(fpr, tpr)(x), 0, 1, xtol=1e-14),
        "tpr_at_fpr_01": tpr[fpr <= 0.01].max(),
        "tpr_at_fpr_05": tpr[fpr <= 0.05].max(),
        "oracle_recall": tpr[best],
        "oracle_fpr": fpr[best],
        "ece": ece,
        "brier": sk.brier_score_loss(labels, scores, sample_weight=weights),
        "oracle_threshold": thresholds[best],
    } | balanced_reference(labels, scores, called, weights)


def balanced_reference(labels, scores, called, weights):
    """The same by scikit-learn with each class weighted to one half."""
    weights = np.ones(len(labels)) if weights is None else weights
    even = weights / np.where(labels == 1, weights[labels == 1].sum(), weights[labels == 0].sum())
    bins = np.clip((scores * metrics.BINS).astype(int), 0, metrics.BINS - 1)
    off = np.bincount(bins, even * (scores - labels), minlength=metrics.BINS)
    return {
        "balanced_precision": sk.precision_score(
            labels, called, sample_weight=even, zero_division=np.nan
        ),
        "balanced_accuracy": sk.accuracy_score(labels, called, sample_weight=even),
        "balanced_f1": sk.f1_score(labels, called, sample_weight=even, zero_division=np.nan),
        "balanced_ap": sk.average_precision_score(labels, scores, sample_weight=even),
        "balanced_ece": np.abs(off).sum() / 2,
        "balanced_brier": sk.brier_score_loss(labels, scores, sample_weight=even),
    }


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "tied"])
@pytest.mark.parametrize("seed", range(10))
def test_metrics_equal_scikit_learn(seed, ties):
    labels, scores = cell(seed, ties=ties)
    found = {name: value[0] for name, value in metrics.measure(labels, scores, 0.55).items()}
    expected = reference(labels, scores, 0.55)
    assert set(found) == set(expected) == {*metrics.METRICS, "oracle_threshold"}
    # Rounded scores sit on the edges of the calibration bins, where only rounding decides.
    for name in set(expected) - ({"ece"} if ties else set()):
        assert found[name] == pytest.approx(expected[name], abs=1e-9), name


@pytest.mark.parametrize("seed", range(3))
def test_weighted_metrics_equal_scikit_learn_with_sample_weights(seed):
    labels, scores = cell(seed, 30, 20)
    counts = np.vstack([draw_weights(30, 5, seed, "real"), draw_weights(20, 5, seed, "fake")])
    found = metrics.measure(labels, scores, 0.5, counts)
    for row, weights in enumerate(counts.T):
        for name, value in reference(labels, scores, 0.5, weights).items():
            assert found[name][row] == pytest.approx(value, abs=1e-9), name


def test_perfect_and_constant_scores_have_their_known_values():
    labels = np.repeat([0, 1], 10)
    perfect = {k: v[0] for k, v in metrics.measure(labels, labels.astype(float), 0.5).items()}
    assert perfect["auc"] == perfect["ap"] == perfect["recall"] == perfect["tpr_at_fpr_01"] == 1
    assert perfect["eer"] == perfect["ece"] == perfect["brier"] == perfect["fpr"] == 0
    constant = {k: v[0] for k, v in metrics.measure(labels, np.full(20, 0.5), 0.4).items()}
    assert constant["auc"] == constant["eer"] == constant["ap"] == 0.5
    assert constant["recall"] == constant["fpr"] == 1
    assert constant["tpr_at_fpr_05"] == 0
    assert (perfect["oracle_recall"], perfect["oracle_fpr"], perfect["oracle_threshold"]) == (
        1,
        0,
        1,
    )
    # No threshold is better than to call nothing fake.
    assert (constant["oracle_recall"], constant["oracle_fpr"]) == (0, 0)
    assert constant["oracle_threshold"] == np.inf


def test_what_is_not_defined_is_nan_with_its_reason():
    reals = metrics.measure(np.zeros(4, int), np.array([0.1, 0.2, 0.8, 0.9]), 0.5)
    assert reals["fpr"][0] == 0.5
    assert all(np.isnan(reals[name][0]) for name in metrics.METRICS if name != "fpr")
    assert "auc" in metrics.why_undefined(0, reals)
    assert metrics.NO_FAKES in metrics.why_undefined(0, reals)
    labels, scores = cell(0)
    silent = metrics.measure(labels, scores, 2.0)
    assert np.isnan(silent["precision"][0]) and silent["recall"][0] == 0
    assert metrics.why_undefined(120, silent) == "precision: nothing was called fake"
    assert metrics.why_undefined(120, metrics.measure(labels, scores, 0.5)) == ""


def test_a_threshold_of_its_own_for_each_resample():
    labels, scores = cell(2)
    thresholds = np.array([0.2, 0.5, 0.9, 2.0])
    found = metrics.measure(labels, scores, thresholds, np.ones((200, 4)))
    for i, threshold in enumerate(thresholds):
        one = metrics.measure(labels, scores, threshold)
        for name in metrics.METRICS:
            assert found[name][i] == pytest.approx(one[name][0], abs=1e-12, nan_ok=True), name


def test_balanced_twins_do_not_depend_on_the_share_of_fakes():
    labels, scores = cell(4)
    more = np.r_[labels, labels[labels == 0]], np.r_[scores, scores[labels == 0]]
    one, other = metrics.measure(labels, scores, 0.5), metrics.measure(*more, 0.5)
    for name in ("precision", "accuracy", "f1", "ap", "ece", "brier"):
        twin = f"balanced_{name}"
        assert one[twin] == pytest.approx(other[twin], abs=1e-12)
        assert abs(one[name] - other[name]) > 0.005, name


def test_chunked_replicates_equal_whole_ones(monkeypatch):
    labels, scores = cell(1)
    counts = draw_weights(200, 50, 0, "x")
    whole = replicates(labels, scores, counts)
    monkeypatch.setattr(metrics, "CHUNK", 1000)
    assert replicates(labels, scores, counts) == pytest.approx(whole, abs=1e-12)
