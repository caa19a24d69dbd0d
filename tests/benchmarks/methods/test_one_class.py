from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.metrics import roc_auc_score

from benchmarks.methods.one_class import OneClass, Options
from benchmarks.methods.srm import luma_features
from pipeline.errors import UserError

OPTIONS = Options(method="one_class", dimensions=5)


def fit(train, valid, dimensions=5):
    return OneClass.fit(train, valid, OPTIONS.model_copy(update={"dimensions": dimensions}), 0)


def test_distances_are_mahalanobis_distances_in_the_principal_plane(planted):
    train, test = planted(80), planted(10, seed=1)
    model = fit(train, planted(40, seed=2))
    features = luma_features(train.pixels[train.labels == 0])
    axes = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)[2][:5]
    projected = features @ axes.T
    inverse = np.linalg.inv(np.cov(projected.T))
    for found, row in zip(
        model.squared_distances(test.pixels), luma_features(test.pixels), strict=True
    ):
        expected = mahalanobis(row @ axes.T, projected.mean(axis=0), inverse) ** 2
        assert found == pytest.approx(expected, rel=1e-6)


def test_no_fake_has_a_say(planted):
    train, valid, test = planted(80), planted(40, seed=1), planted(20, seed=2)
    others = [planted(n, seed=s, strength=60) for n, s in ((80, 7), (40, 8))]

    def other_fakes(images, foreign):
        fake = (images.labels == 1)[:, None, None, None]
        return replace(images, pixels=np.where(fake, foreign.pixels, images.pixels))

    expected = fit(train, valid).score(test.pixels)
    swapped = fit(other_fakes(train, others[0]), other_fakes(valid, others[1]))
    assert np.array_equal(swapped.score(test.pixels), expected)
    none = train.subset(train.labels == 0), valid.subset(valid.labels == 0)
    assert np.array_equal(fit(*none).score(test.pixels), expected)


def test_fakes_are_farther_than_photographs_in_either_direction(planted):
    model, test = fit(planted(120), planted(60, seed=1)), planted(60, seed=2)
    for strength in (25, -25):  # more and, on the photographs' noise, an inverted trace
        fakes = planted(60, seed=3, strength=strength)
        pixels = np.concatenate([test.pixels[test.labels == 0], fakes.pixels[fakes.labels == 1]])
        assert roc_auc_score(np.repeat([0, 1], 30), model.score(pixels)) > 0.9
    # Smoother than any photograph.
    smooth = np.broadcast_to(test.pixels[:30, :1, :1], (30, 32, 32, 1))
    pixels = np.concatenate([test.pixels[test.labels == 0], smooth])
    assert roc_auc_score(np.repeat([0, 1], 30), model.score(pixels)) == 1


def test_half_is_where_95_percent_of_the_valid_photographs_lie_below(planted):
    valid = planted(400, seed=1)
    scores = fit(planted(120), valid).score(valid.pixels[valid.labels == 0])
    assert (scores < 0.5).mean() == pytest.approx(0.95, abs=0.005)


def test_scores_keep_the_order_of_distances_however_far(planted):
    model = fit(planted(120), planted(60, seed=1))
    model.scale = 1e-6
    pixels = planted(60, seed=2, strength=100).pixels
    scores = model.score(pixels)
    assert len(np.unique(scores)) == len(np.unique(model.squared_distances(pixels)))
    assert np.array_equal(np.argsort(scores), np.argsort(model.squared_distances(pixels)))


def test_too_few_photographs_are_an_error_that_says_how_many(planted):
    with pytest.raises(UserError, match="20 training photographs for 11 dimensions; expected 22"):
        fit(planted(40), planted(40), dimensions=11)
