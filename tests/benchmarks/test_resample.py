"""Resamples: by name, whole persons at a time, and as wide as the truth."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.resample import Draws, draw_weights, persons_of


def test_resamples_depend_on_names_alone_and_keep_the_sample_size():
    weights = draw_weights(50, 20, 7, "dcgan")
    assert weights.shape == (50, 20) and (weights.sum(axis=0) == 50).all()
    assert np.array_equal(weights, draw_weights(50, 20, 7, "dcgan"))
    assert not np.array_equal(weights, draw_weights(50, 20, 7, "wgan"))
    assert np.array_equal(weights, weights.round())


def test_the_images_of_a_person_are_drawn_together():
    ids = np.array(["i0", "i1", "i2", "i3", "i4"])
    persons = persons_of(ids, np.array(["ann", "bob", "", "ann", ""]))
    assert persons.tolist() == ["ann", "bob", "i2", "ann", "i4"]
    weights, number = Draws(200, 0).of(persons, "x")
    assert number == 4 and np.array_equal(weights[0], weights[3])
    assert not np.array_equal(weights[0], weights[1])
    # The same persons under the same name are drawn alike, whoever asks and in whatever order.
    again, _ = Draws(200, 0).of(persons[::-1], "x")
    assert np.array_equal(again[::-1], weights)


@pytest.mark.parametrize("n", [4, 8, 100])
def test_the_variance_of_a_mean_over_resamples_is_that_of_the_mean(n):
    values = np.random.default_rng(n).normal(size=n)
    means = values @ draw_weights(n, 40_000, 0, "x") / n
    assert means.var() == pytest.approx(values.var(ddof=0) / n, rel=0.05)
