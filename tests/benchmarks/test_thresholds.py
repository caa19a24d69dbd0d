from __future__ import annotations

import numpy as np
import pytest

from benchmarks.thresholds import fpr_threshold, threshold_by
from pipeline.errors import UserError


def rate(scores, threshold):
    return float((scores >= threshold).mean())


@pytest.mark.parametrize("n", [1, 19, 20, 60, 61, 1000])
@pytest.mark.parametrize("decimals", [1, 2, 16], ids=["many ties", "ties", "distinct"])
def test_threshold_is_the_smallest_one_that_keeps_the_target(n, decimals):
    real = np.round(np.random.default_rng(n).random(n), decimals)
    threshold = fpr_threshold(real, np.zeros(n), 0.05)
    assert rate(real, threshold) <= 0.05
    # One float lower, and the target is broken.
    assert rate(real, np.nextafter(threshold, -np.inf)) > 0.05


def test_target_that_divides_the_photographs_is_used_up():
    real = np.linspace(0, 1, 60)
    assert round(rate(real, fpr_threshold(real, np.zeros(60), 0.05)) * 60) == 3


def test_ties_that_would_break_the_target_are_all_called_real():
    real = np.array([0.1] * 50 + [0.9] * 10)
    assert rate(real, fpr_threshold(real, np.zeros(60), 0.05)) == 0
    saturated = np.ones(10)
    assert rate(saturated, fpr_threshold(saturated, np.zeros(10), 0.05)) == 0


def test_fakes_have_no_say():
    rng = np.random.default_rng(0)
    real = rng.random(40)
    alone = fpr_threshold(real, np.zeros(40), 0.05)
    mixed = fpr_threshold(np.r_[real, rng.random(99)], np.r_[np.zeros(40), np.ones(99)], 0.05)
    assert alone == mixed


def test_bad_input_is_a_clear_error():
    with pytest.raises(UserError, match="no photograph"):
        fpr_threshold(np.ones(3), np.ones(3), 0.05)
    with pytest.raises(UserError, match="NaN"):
        fpr_threshold(np.array([0.1, np.nan]), np.zeros(2), 0.05)
    with pytest.raises(UserError, match="'best' is unknown; expected one of fpr"):
        threshold_by("best", np.ones(3), np.zeros(3), 0.05)
