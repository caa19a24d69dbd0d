"""Every metric against scikit-learn or scipy, and the intervals against a plain loop."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from benchmarks import metrics


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
    }


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "tied"])
@pytest.mark.parametrize("seed", range(10))
def test_metrics_equal_scikit_learn(seed, ties):
    labels, scores = cell(seed, ties=ties)
    found = {name: value[0] for name, value in metrics.measure(labels, scores, 0.55).items()}
    expected = reference(labels, scores, 0.55)
    assert list(found) == list(expected) == [*metrics.METRICS, "oracle_threshold"]
    # Rounded scores sit on the edges of the calibration bins, where only rounding decides.
    for name in set(expected) - ({"ece"} if ties else set()):
        assert found[name] == pytest.approx(expected[name], abs=1e-9), name


@pytest.mark.parametrize("seed", range(3))
def test_weighted_metrics_equal_scikit_learn_with_sample_weights(seed):
    labels, scores = cell(seed, 30, 20)
    counts = np.vstack(
        [metrics.resample_counts(30, 5, seed, "real"), metrics.resample_counts(20, 5, seed, "fake")]
    )
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


def test_intervals_equal_a_plain_loop_of_resamples():
    labels, scores = cell(3, 25, 35)
    counts = np.vstack(
        [metrics.resample_counts(25, 15, 0, "real"), metrics.resample_counts(35, 15, 0, "g")]
    )
    low, high = metrics.interval(replicates(labels, scores, counts))
    loop = {name: [] for name in metrics.METRICS}
    for row in counts.T.astype(int):
        index = np.repeat(np.arange(len(labels)), row)
        expected = reference(labels[index], scores[index], 0.5)
        for name, values in loop.items():
            values.append(expected[name])
    for found, values in zip(zip(low, high, strict=True), loop.values(), strict=True):
        assert found == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-9)


def test_the_interval_over_seeds_equals_a_plain_loop_over_seeds_and_images():
    """In each resample draw seeds, then images for all of them, and average over the seeds."""
    cells = [cell(seed, 25, 35) for seed in range(3)]
    labels = cells[0][0]
    counts = np.vstack(
        [metrics.resample_counts(25, 15, 0, "real"), metrics.resample_counts(35, 15, 0, "g")]
    )
    drawn = metrics.resample_counts(3, 15, 0, "seeds")
    tables = np.stack([replicates(y, scores, counts) for y, scores in cells])
    found = metrics.over_seeds(tables, drawn)
    for b in range(15):
        index = np.repeat(np.arange(len(labels)), counts[:, b].astype(int))
        aucs = [sk.roc_auc_score(labels[index], scores[index]) for _, scores in cells]
        seeds = np.repeat(np.arange(3), drawn[:, b].astype(int))
        expected = np.mean([aucs[seed] for seed in seeds])
        assert found[metrics.METRICS.index("auc"), b] == pytest.approx(expected, abs=1e-9)


def test_one_seed_has_the_interval_of_its_images_alone():
    labels, scores = cell(0)
    counts = metrics.resample_counts(200, 50, 0, "x")
    table = replicates(labels, scores, counts)
    alone = metrics.over_seeds(table[None], metrics.resample_counts(1, 50, 0, "seeds"))
    assert np.array_equal(alone, table)


def test_seeds_that_differ_widen_the_interval():
    tables = np.zeros((3, 1, 1000)) + np.array([0.2, 0.5, 0.8])[:, None, None]
    drawn = metrics.resample_counts(3, 1000, 0, "seeds")
    low, high = metrics.interval(metrics.over_seeds(tables, drawn))
    assert low[0] < 0.31 and high[0] > 0.69
    # A seed in which a metric is not defined counts where it is drawn, and only there.
    tables[0] = np.nan
    found = metrics.over_seeds(tables, drawn)[0]
    assert np.array_equal(np.isnan(found), drawn[0] > 0)
    assert metrics.interval(found)[0] >= 0.5
    assert np.isnan(metrics.interval(np.full(9, np.nan))).all()


def test_intervals_cover_the_true_auc_about_as_often_as_they_say():
    true = 0.802  # AUC of N(1.2, 1) against N(0, 1): Phi(1.2 / sqrt 2)
    hits, auc = 0, metrics.METRICS.index("auc")
    for seed in range(100):
        labels, scores = cell(seed + 100)
        counts = np.vstack(
            [metrics.resample_counts(80, 200, seed, "r"), metrics.resample_counts(120, 200, seed)]
        )
        low, high = metrics.interval(replicates(labels, scores, counts)[auc])
        hits += low <= true <= high
    assert 86 <= hits <= 100


def test_resamples_depend_on_names_alone_and_keep_the_sample_size():
    counts = metrics.resample_counts(50, 20, 7, "dcgan")
    assert counts.shape == (50, 20) and (counts.sum(axis=0) == 50).all()
    assert np.array_equal(counts, metrics.resample_counts(50, 20, 7, "dcgan"))
    assert not np.array_equal(counts, metrics.resample_counts(50, 20, 7, "wgan"))


def test_chunked_replicates_equal_whole_ones(monkeypatch):
    labels, scores = cell(1)
    counts = metrics.resample_counts(200, 50, 0, "x")
    whole = replicates(labels, scores, counts)
    monkeypatch.setattr(metrics, "CHUNK", 1000)
    assert replicates(labels, scores, counts) == pytest.approx(whole, abs=1e-12)


def test_a_thousand_resamples_of_a_cell_take_a_fraction_of_a_second():
    labels, scores = cell(0)
    counts = np.vstack(
        [metrics.resample_counts(80, 1000, 0, "r"), metrics.resample_counts(120, 1000, 0, "f")]
    )
    start = time.perf_counter()
    metrics.interval(replicates(labels, scores, counts))
    assert time.perf_counter() - start < 1.0
