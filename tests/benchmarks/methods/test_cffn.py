from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from benchmarks.methods.cffn import Cffn, CffnDeepFD, CffnNetwork
from deepfd.detector import initialised
from pipeline.errors import UserError
from pipeline.params import Cffn as Options

OPTIONS = Options(
    method="cffn", width=16, contrastive_steps=10, classifier_steps=60, batch=16, lr=0.005,
    validate_every=20,
)  # fmt: skip


def test_the_units_end_in_the_published_channels():
    assert Cffn(3, 64).widths == [48, 60, 78, 126]


def test_the_feature_has_384_numbers_that_sum_to_1():
    network = initialised(3, 64, 96, 0, CffnNetwork).eval()
    maps, features = network.d1(torch.randn(2, 3, 64, 64))
    assert maps.shape == (2, 128, 2, 2) and features.shape == (2, 384)
    torch.testing.assert_close(features.sum(dim=1), torch.ones(2))
    torch.testing.assert_close(network.d1.maps(torch.zeros(1, 3, 64, 64)).shape[1], 128)


def test_the_first_two_units_reach_the_feature_directly():
    d1 = Cffn(1, 32, 16).eval()
    with torch.no_grad():
        d1.heads[2].weight.zero_()  # the way over the last maps is cut
    features = [d1(torch.randn(1, 1, 32, 32))[1] for _ in range(2)]
    assert not torch.equal(*features)


def test_a_planted_signal_is_learnt_and_kept(planted, tmp_path):
    model = CffnDeepFD.fit(planted(120), planted(40, seed=1), OPTIONS, seed=0)
    test = planted(80, seed=2)
    scores = model.score(test.pixels)
    assert roc_auc_score(test.labels, scores) > 0.95
    model.save(tmp_path)
    loaded = CffnDeepFD.load(tmp_path)
    assert isinstance(loaded.network, CffnNetwork)
    np.testing.assert_array_equal(loaded.score(test.pixels), scores)


def test_pictures_too_small_for_three_halvings_are_refused():
    with pytest.raises(UserError, match="16 px are too small for cffn; expected 32"):
        Cffn(1, 16)
