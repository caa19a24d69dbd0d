"""Comparisons: their p values and corrections against scipy and plain definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks import comparisons
from benchmarks.metrics import resample_counts


def test_holm_equals_its_definition_and_lies_between_none_and_bonferroni():
    draw = np.random.default_rng(0)
    for m in (1, 2, 7, 30):
        p = draw.random(m) ** 3
        found = comparisons.holm(p)
        ranked = np.sort(p)
        for value, corrected in zip(p, found, strict=True):
            steps = [min(1.0, (m - i) * ranked[i]) for i in range(m) if ranked[i] <= value]
            assert corrected == pytest.approx(max(steps), abs=1e-12)
        assert (p <= found).all() and (found <= np.minimum(1, m * p) + 1e-12).all()


def test_the_p_value_of_a_difference_of_means_is_that_of_a_paired_test():
    draw = np.random.default_rng(1)
    for shift in (0.0, 0.1, 0.3):
        a = draw.normal(shift, 1, 300)
        b = 0.7 * a + draw.normal(0, 0.5, 300) - 0.5 * shift
        counts = resample_counts(300, 4000, 0, "images")
        replicates = (a - b) @ counts / 300
        found = comparisons.p_value((a - b).mean(), replicates)
        assert found == pytest.approx(stats.ttest_rel(a, b).pvalue, abs=0.03)


def test_p_values_of_methods_that_do_not_differ_are_spread_evenly():
    draw = np.random.default_rng(2)
    counts = resample_counts(100, 500, 0, "images")
    found = []
    for _ in range(300):
        difference = draw.normal(0, 1, 100)
        found.append(comparisons.p_value(difference.mean(), difference @ counts / 100))
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_a_difference_that_no_resample_moves_is_certain_or_none():
    assert comparisons.p_value(0.0, np.zeros(10)) == 1
    assert comparisons.p_value(0.5, np.full(10, 0.5)) == 0
