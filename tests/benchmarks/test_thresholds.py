from __future__ import annotations

import numpy as np
import pytest

from benchmarks.thresholds import fpr_thresholds, rule_name, shortfall, threshold_by, thresholds_by
from pipeline.errors import UserError


def threshold_of(real):
    return threshold_by("fpr", real, np.zeros(len(real)), 0.05)


@pytest.mark.parametrize("n", [19, 20, 60, 61, 1000])
@pytest.mark.parametrize("decimals", [1, 2, 16], ids=["many ties", "ties", "distinct"])
def test_threshold_is_the_smallest_one_that_expects_no_more_than_the_target(n, decimals):
    real = np.round(np.random.default_rng(n).random(n), decimals)
    threshold = threshold_of(real)
    assert (real >= threshold).sum() + 1 <= 0.05 * (n + 1) + 1e-9
    # One float lower, and more is expected.
    lower = np.nextafter(threshold, -np.inf)
    assert (real >= lower).sum() + 1 > 0.05 * (n + 1) + 1e-9


@pytest.mark.parametrize(("n", "called"), [(19, 0), (20, 0), (39, 1), (59, 2), (60, 2), (99, 4)])
def test_how_many_valid_photographs_are_called(n, called):
    real = np.linspace(0, 1, n)
    assert (real >= threshold_of(real)).sum() == called


@pytest.mark.parametrize("n", [19, 60, 99])
def test_the_rate_on_new_photographs_is_in_the_mean_at_most_the_target(n):
    """Of 20,000 draws; the old rule, k <= target n, gave 6.6 % with n = 60."""
    draw = np.random.default_rng(0)
    real = draw.random((n, 20_000))  # uniform: a threshold t calls 1 - t of new photographs
    thresholds = np.sort(real, axis=0)[n - 1 - (int(0.05 * (n + 1) + 1e-9) - 1)]
    assert thresholds[0] == pytest.approx(threshold_of(real[:, 0]))
    rates = 1 - np.array([threshold_of(real[:, i]) for i in range(2000)])
    expected = int(0.05 * (n + 1) + 1e-9) / (n + 1)
    assert rates.mean() == pytest.approx(expected, abs=0.003) and expected <= 0.05
    assert (1 - thresholds).mean() == pytest.approx(expected, abs=0.001)


def test_with_too_few_photographs_the_threshold_is_above_all_and_that_is_said():
    real = np.linspace(0, 1, 18)
    assert threshold_of(real) == np.nextafter(1.0, np.inf)
    assert shortfall(18, 0.05).startswith("18 valid photographs are too few")
    assert "expects 0.0526" in shortfall(18, 0.05) and "19 or more" in shortfall(18, 0.05)
    assert shortfall(19, 0.05) == "" and shortfall(99, 0.01) == "" and shortfall(98, 0.01)


def test_ties_that_would_break_the_target_are_all_called_real():
    for real in (np.array([0.1] * 50 + [0.9] * 10), np.ones(30)):
        assert (real >= threshold_of(real)).sum() == 0


def test_fakes_have_no_say():
    rng = np.random.default_rng(0)
    real = rng.random(40)
    mixed = np.r_[real, rng.random(99)]
    labels = np.r_[np.zeros(40), np.ones(99)]
    assert threshold_of(real) == threshold_by("fpr", mixed, labels, 0.05)


def test_a_weighted_photograph_counts_as_that_many():
    rng = np.random.default_rng(0)
    real = np.round(rng.random(30), 1)
    counts = rng.integers(0, 5, (30, 50))
    found = fpr_thresholds(real, counts.astype(float), 0.05)
    for column, threshold in zip(counts.T, found, strict=True):
        assert threshold == threshold_of(np.repeat(real, column))
    assert np.array_equal(found, thresholds_by(rule_name("fpr", 0.05), real, counts))


def test_bad_input_is_a_clear_error():
    with pytest.raises(UserError, match="no photograph"):
        threshold_by("fpr", np.ones(3), np.ones(3), 0.05)
    with pytest.raises(UserError, match="NaN"):
        threshold_by("fpr", np.array([0.1, np.nan]), np.zeros(2), 0.05)
    with pytest.raises(UserError, match="'best' is unknown; expected one of fpr"):
        threshold_by("best", np.ones(3), np.zeros(3), 0.05)
