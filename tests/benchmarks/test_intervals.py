"""Intervals and p values of one model, against what is known of simple cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.intervals import MANY, Estimate, Measured, Sizes, bounds, difference
from benchmarks.metrics import METRICS
from benchmarks.resample import draw_weights


def estimate_of(*values, weights):
    """Estimate of a mean of each seed's values (n,) on the same images."""
    values = np.array(values, dtype=float)
    tables = values @ weights / values.shape[1]
    return Estimate.of(Measured(values.mean(axis=1)[:, None], tables[:, None]))


@pytest.mark.parametrize("hits", [5, 30, 59])
def test_a_share_has_the_interval_of_a_binomial_share(hits):
    n = 60
    weights = draw_weights(n, 20_000, 0, "x")
    low, high = bounds(estimate_of(np.arange(n) < hits, weights=weights), n, n)
    # Jeffreys'; the bootstrap knows the variance but for its own noise.
    expected = stats.beta.ppf([0.025, 0.975], hits + 0.5, n - hits + 0.5)
    assert (low[0], high[0]) == pytest.approx(tuple(expected), abs=0.01)
    exact = stats.binomtest(hits, n).proportion_ci(method="exact")
    assert exact.low - 0.01 < low[0] < hits / n < high[0] < exact.high + 0.01


@pytest.mark.parametrize("n", [8, 90])
def test_all_or_none_have_the_bounds_of_clopper_and_pearson_and_never_a_width_of_zero(n):
    weights = draw_weights(n, 100, 0, "x")
    for hits in (0, n):
        low, high = bounds(estimate_of(np.full(n, hits / n), weights=weights), 1000, n)
        exact = stats.binomtest(hits, n).proportion_ci(method="exact")
        assert (low[0], high[0]) == pytest.approx((exact.low, exact.high), abs=1e-9)
    if n == 90:
        assert low[0] == pytest.approx(0.96, abs=0.001)  # "1.00 (0.96-1.00)"


def test_a_share_just_below_one_is_not_known_better_than_one():
    n = 90
    weights = draw_weights(n, 2000, 0, "x")
    ones = np.ones(n)
    missed = np.r_[0, ones[1:]]
    all_caught, _ = bounds(estimate_of(ones, ones, ones, weights=weights), n, n)
    nearly, _ = bounds(estimate_of(ones, missed, ones, weights=weights), n, n)
    assert nearly <= all_caught


def test_seeds_that_differ_have_students_interval_with_their_degrees_of_freedom():
    """Where images are all alike, it is that of a mean of S draws."""
    seeds = np.array([0.48, 0.50, 0.52])
    weights = draw_weights(1000, 50, 0, "x")
    estimate = estimate_of(*np.repeat(seeds[:, None], 1000, axis=1), weights=weights)
    variance, reach = estimate.variance()
    expected = stats.t.interval(0.95, 2, seeds.mean(), stats.sem(seeds))
    assert variance[0] == pytest.approx(stats.sem(seeds) ** 2)
    assert reach[0] == pytest.approx(stats.t.ppf(0.975, 2))
    low, high, _ = difference(estimate, np.inf, 1000)
    assert (low[0], high[0]) == pytest.approx(expected)
    # Of a mean over folds whose seeds differ as much: folds x (seeds - 1).
    _, reach = Estimate.mean([estimate] * 6).variance()
    assert reach[0] == pytest.approx(stats.t.ppf(0.975, 12))
    # Where those of one fold alone differ, the others add none.
    steady = Estimate(estimate.value, estimate.table, ((np.zeros(1), 2),))
    _, reach = Estimate.mean([estimate, *[steady] * 5]).variance()
    assert reach[0] == pytest.approx(stats.t.ppf(0.975, 2))


def test_noise_that_images_explain_is_not_counted_as_the_seeds_again():
    rng = np.random.default_rng(0)
    weights = draw_weights(400, 500, 0, "x")
    ratios = []
    for _ in range(50):
        # Every seed errs in images of its own, and no seed is better than another.
        estimate = estimate_of(*(rng.random((3, 400)) < 0.7), weights=weights)
        ratios.append(estimate.variance()[0][0] / (0.7 * 0.3 / 1200))
    assert 0.9 < np.mean(ratios) < 1.4  # 2 if it were


def test_one_seed_has_the_interval_of_its_images_alone_and_more_seeds_no_narrower_one():
    rng = np.random.default_rng(1)
    weights = draw_weights(100, 500, 0, "x")
    values = rng.random((3, 100)) < np.array([[0.3], [0.5], [0.9]])
    one, three = (estimate_of(*values[:n], weights=weights) for n in (1, 3))
    assert one.training == () and one.variance()[1] == pytest.approx(1.96, abs=0.001)
    assert three.variance()[0] > three.table.var(ddof=1) and three.variance()[1] > 3


def test_few_persons_widen_the_interval():
    weights = draw_weights(8, 2000, 0, "x")
    estimate = estimate_of(np.arange(8) / 8, weights=weights)
    few, many = (bounds(estimate, 80, 8, freedom) for freedom in (7, MANY))
    assert few[0] < many[0] and few[1] > many[1]


def test_what_is_not_defined_has_no_bounds_and_a_resample_where_it_is_not_is_left_out():
    weights = draw_weights(50, 200, 0, "x")
    estimate = estimate_of(np.arange(50) < 20, weights=weights)
    gaps = estimate.table.copy()
    gaps[:, ::5] = np.nan
    low, high = bounds(Estimate(estimate.value, gaps), 50, 50)
    assert 0.2 < low[0] < 0.4 < high[0] < 0.6
    low, high = bounds(Estimate(np.array([np.nan]), np.full((1, 9), np.nan)), 50, 50)
    assert np.isnan(low[0]) and np.isnan(high[0])


def test_bounds_lie_in_the_unit_interval_and_hold_the_value_whatever_comes():
    rng = np.random.default_rng(2)
    for _ in range(200):
        seeds, folds = rng.integers(1, 4, 2)
        parts = []
        for _ in range(folds):
            values = rng.choice([0, 1e-6, 0.02, 0.5, 0.999, 1], (seeds, 3))
            tables = np.clip(values[..., None] + rng.normal(0, 0.1, (seeds, 3, 20)), 0, 1)
            parts.append(Estimate.of(Measured(values, tables)))
        mean = Estimate.mean(parts)
        low, high = bounds(mean, np.array([40, 40, np.inf]), 30, 5)
        assert (low >= 0).all() and (high <= 1).all()
        assert (low <= mean.value).all() and (mean.value <= high).all()
        assert (high - low > 1e-9).all()


def test_the_p_value_of_a_difference_of_means_is_that_of_a_paired_test():
    draw = np.random.default_rng(1)
    weights = draw_weights(300, 4000, 0, "images")
    for shift in (0.0, 0.1, 0.3):
        a = draw.normal(shift, 1, 300)
        b = 0.7 * a + draw.normal(0, 0.5, 300) - 0.5 * shift
        _, _, p = difference(estimate_of(a - b, weights=weights), 300, 300, 299)
        assert p[0] == pytest.approx(stats.ttest_rel(a, b).pvalue, abs=0.03)


def test_p_values_of_methods_that_do_not_differ_are_spread_evenly():
    draw = np.random.default_rng(2)
    weights = draw_weights(100, 500, 0, "images")
    found = [
        difference(estimate_of(draw.normal(0, 1, 100), weights=weights), 100, 100)[2][0]
        for _ in range(300)
    ]
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_p_is_below_five_percent_exactly_where_the_interval_leaves_zero_out():
    rng = np.random.default_rng(3)
    weights = draw_weights(40, 200, 0, "images")
    for _ in range(100):
        values = rng.normal(rng.normal(0, 0.15), 0.3, (3, 40)) + rng.normal(0, 0.05, (3, 1))
        low, high, p = difference(estimate_of(*values, weights=weights), 40, 40, 9)
        assert (p[0] < 0.05) == (low[0] > 0 or high[0] < 0)


def test_a_difference_that_no_image_shows_is_bounded_as_exactly():
    weights = draw_weights(90, 50, 0, "x")
    low, high, p = difference(estimate_of(np.zeros(90), weights=weights), 90, 90)
    assert p[0] == 1 and (-low[0], high[0]) == pytest.approx((0.04, 0.04), abs=0.001)
    _, _, p = difference(estimate_of(np.ones(90), weights=weights), 90, 90)
    assert p[0] < 1e-9


def test_persons_and_images_count_where_a_metric_is_made_of_them():
    sizes = Sizes(fakes=90, photographs=80, persons=8, valid_persons=6)
    of = {
        name: values
        for name, *values in zip(
            METRICS, sizes.images(), sizes.units(), sizes.freedom(), strict=True
        )
    }
    assert of["recall"] == [90, 90, 5] and of["fpr"] == [80, 8, 5]
    assert of["tpr_at_fpr_05"] == [90, 90, 7] and of["auc"] == [np.inf, 8, 7]
    assert of["accuracy"] == [np.inf, 8, 5]
