"""Every metric against scikit-learn or scipy, and the intervals against a plain loop."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn import metrics as sk

from benchmarks import metrics


def cell(seed: int, n_real: int = 80, n_fake: int = 120, ties: bool = False):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [n_real, n_fake])
    scores = 1 / (1 + np.exp(-rng.normal(labels * 1.2 - 0.4)))
    return labels, np.round(scores, 1) if ties else scores


def reference(labels, scores, threshold, weights=None) -> dict[str, float]:
    called = scores >= threshold
    kwargs = {"sample_weight": weights, "zero_division": np.nan}
    fpr, tpr, _ = sk.roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    weight = np.ones(len(labels)) if weights is None else weights
    edges = np.linspace(0, 1, metrics.BINS + 1)
    bins = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, metrics.BINS - 1)
    ece = 0.0
    for b in range(metrics.BINS):
        inside = weight[bins == b]
        if inside.sum():
            confidence = np.average(scores[bins == b], weights=inside)
            share = np.average(labels[bins == b], weights=inside)
            ece += inside.sum() / weight.sum() * abs(confidence - share)
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
        "ece": ece,
        "brier": sk.brier_score_loss(labels, scores, sample_weight=weights),
    }


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "tied"])
@pytest.mark.parametrize("seed", range(10))
def test_metrics_equal_scikit_learn(seed, ties):
    labels, scores = cell(seed, ties=ties)
    found = {name: value[0] for name, value in metrics.measure(labels, scores, 0.55).items()}
    expected = reference(labels, scores, 0.55)
    assert list(found) == list(metrics.METRICS)
    # Rounded scores sit on the edges of the calibration bins, where only rounding decides.
    for name in set(expected) - ({"ece"} if ties else set()):
        assert found[name] == pytest.approx(expected[name], abs=1e-9), name


@pytest.mark.parametrize("seed", range(3))
def test_weighted_metrics_equal_scikit_learn_with_sample_weights(seed):
    labels, scores = cell(seed, 30, 20)
    counts = np.hstack(
        [metrics.resample_counts(30, 5, seed, "real"), metrics.resample_counts(20, 5, seed, "fake")]
    )
    found = metrics.measure(labels, scores, 0.5, counts)
    for row, weights in enumerate(counts):
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


def test_what_is_not_defined_is_nan_with_its_reason():
    reals = metrics.measure(np.zeros(4, int), np.array([0.1, 0.2, 0.8, 0.9]), 0.5)
    assert reals["fpr"][0] == 0.5
    assert all(np.isnan(reals[name][0]) for name in metrics.METRICS if name != "fpr")
    assert "auc" in metrics.why_undefined(np.zeros(4, int), reals)
    assert metrics.NO_FAKES in metrics.why_undefined(np.zeros(4, int), reals)
    labels, scores = cell(0)
    silent = metrics.measure(labels, scores, 2.0)
    assert np.isnan(silent["precision"][0]) and silent["recall"][0] == 0
    assert metrics.why_undefined(labels, silent) == "precision: nothing was called fake"
    assert metrics.why_undefined(labels, metrics.measure(labels, scores, 0.5)) == ""


def test_intervals_equal_a_plain_loop_of_resamples():
    labels, scores = cell(3, 25, 35)
    counts = np.hstack(
        [metrics.resample_counts(25, 50, 0, "real"), metrics.resample_counts(35, 50, 0, "g")]
    )
    found = metrics.intervals(labels, scores, 0.5, counts)
    loop = {name: [] for name in ("auc", "ap", "recall", "fpr", "f1")}
    for row in counts.astype(int):
        index = np.repeat(np.arange(len(labels)), row)
        expected = reference(labels[index], scores[index], 0.5)
        for name, values in loop.items():
            values.append(expected[name])
    for name, values in loop.items():
        assert found[name] == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-9)


def test_intervals_cover_the_true_auc_about_as_often_as_they_say():
    true = 0.802  # AUC of N(1.2, 1) against N(0, 1): Phi(1.2 / sqrt 2)
    hits = 0
    for seed in range(100):
        labels, scores = cell(seed + 100)
        counts = np.hstack(
            [metrics.resample_counts(80, 200, seed, "r"), metrics.resample_counts(120, 200, seed)]
        )
        low, high = metrics.intervals(labels, scores, 0.5, counts)["auc"]
        hits += low <= true <= high
    assert 86 <= hits <= 100


def test_resamples_depend_on_names_alone_and_keep_the_sample_size():
    counts = metrics.resample_counts(50, 20, 7, "dcgan")
    assert (counts.sum(axis=1) == 50).all()
    assert np.array_equal(counts, metrics.resample_counts(50, 20, 7, "dcgan"))
    assert not np.array_equal(counts, metrics.resample_counts(50, 20, 7, "wgan"))


def test_chunked_intervals_equal_whole_ones(monkeypatch):
    labels, scores = cell(1)
    counts = metrics.resample_counts(200, 50, 0, "x")
    whole = metrics.intervals(labels, scores, 0.5, counts)
    monkeypatch.setattr(metrics, "CHUNK", 1000)
    assert metrics.intervals(labels, scores, 0.5, counts) == whole


def test_a_thousand_resamples_of_a_cell_take_a_fraction_of_a_second():
    labels, scores = cell(0)
    counts = np.hstack(
        [metrics.resample_counts(80, 1000, 0, "r"), metrics.resample_counts(120, 1000, 0, "f")]
    )
    start = time.perf_counter()
    metrics.intervals(labels, scores, 0.5, counts)
    assert time.perf_counter() - start < 1.0
