from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from benchmarks.methods.npr import Npr, NprNetwork, neighbour_residual
from deepfd.detector import Detector, initialised
from pipeline.params import Npr as Options

OPTIONS = Options(method="npr", width=8, classifier_steps=60, batch=16, lr=0.005, validate_every=20)


def test_the_residual_is_two_thirds_of_the_difference_from_the_upper_left_of_each_block():
    x = torch.arange(32.0).reshape(1, 2, 4, 4)
    expected = torch.empty_like(x)
    for c, i, j in np.ndindex(2, 4, 4):
        expected[0, c, i, j] = (x[0, c, i, j] - x[0, c, i // 2 * 2, j // 2 * 2]) * 2 / 3
    torch.testing.assert_close(neighbour_residual(x), expected)


def test_a_picture_enlarged_by_nearest_neighbour_leaves_nothing():
    x = F.interpolate(torch.randn(2, 3, 8, 8), scale_factor=2, mode="nearest")
    assert not neighbour_residual(x).any()


def test_the_network_has_the_published_1_44_million_parameters():
    count = sum(one.numel() for one in NprNetwork(3, 64).parameters())
    # Stem 1,856, layers of ResNet-50 215,808 and 1,219,584, and two logits of 512 weights.
    assert count == 1856 + 215_808 + 1_219_584 + 2 * 513
    assert round(count / 1e6, 2) == 1.44


def test_maps_are_an_eighth_of_the_picture():
    network = initialised(3, 64, 8, 0, NprNetwork).eval()
    maps, features = network.d1(torch.zeros(2, 3, 64, 64))
    assert maps.shape == (2, 64, 8, 8) and features.shape == (2, 64)


def test_a_planted_signal_is_learnt_and_kept(planted, tmp_path):
    model = Npr.fit(planted(120), planted(40, seed=1), OPTIONS, seed=0)
    test = planted(80, seed=2)
    scores = model.score(test.pixels)
    assert roc_auc_score(test.labels, scores) > 0.95
    model.save(tmp_path)
    loaded = Npr.load(tmp_path)
    assert isinstance(loaded.network, NprNetwork)
    np.testing.assert_array_equal(loaded.score(test.pixels), scores)
    logit = np.log(scores / (1 - scores))
    mean = loaded.evidence(test.pixels).mean(axis=(1, 2))
    np.testing.assert_allclose(mean, logit, rtol=1e-3, atol=1e-3)


def test_weights_of_another_architecture_are_refused(planted, tmp_path):
    Detector(initialised(1, 32, 8, seed=0)).save(tmp_path)
    with pytest.raises(Exception, match="holds no detector that can be read"):
        Npr.load(tmp_path)
