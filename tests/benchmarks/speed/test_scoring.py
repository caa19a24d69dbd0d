"""The loop does the same work: every metric in every resample comes out as ours does."""

import numpy as np
import pytest

from benchmarks.metrics import METRICS
from benchmarks.speed import scoring


@pytest.mark.parametrize("seed", [0, 1])
def test_both_ways_give_the_same_numbers(seed):
    labels, scores = scoring.cell(seed)
    weights = scoring.counts(labels, 12, seed)
    ours = scoring.ours(labels, scores, 0.5, weights)
    assert ours.shape == (len(METRICS), 12)
    np.testing.assert_allclose(ours, scoring.loop(labels, scores, 0.5, weights), atol=1e-12)
    assert (ours.std(axis=1) > 0).all()  # no metric is the same whatever the resample


def test_resamples_draw_each_class_apart():
    labels, _ = scoring.cell()
    weights = scoring.counts(labels, 5)
    assert (weights[labels == 1].sum(axis=0) == scoring.FAKES).all()
    assert (weights[labels == 0].sum(axis=0) == scoring.PHOTOGRAPHS).all()
