from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.methods.deepfd import architecture
from deepfd import losses, objectives
from deepfd.detector import Network
from deepfd.objectives import CropBatches, CropLoss, Pool
from deepfd.options import DeepFD, Treatment
from deepfd.treatment import treated
from pipeline.images import Jpeg

pytestmark = pytest.mark.numbers

CROPS = DeepFD(method="deepfd", widths=(4, 8), crop=16, steps=12, batch=8, lr=0.003)
CPU = torch.device("cpu")


@pytest.mark.parametrize("contrast", ["margin", "supervised"])
def test_the_contrastive_loss_beside_cross_entropy_is_seen_from_the_first_step(planted, contrast):
    fold = planted(40)
    options = CROPS.model_copy(update={"contrast": contrast, "contrast_weight": 0.5})
    net = Network(1, 32, **architecture(options), seed=0).eval()
    both = CropLoss(fold, options, 0, CPU)(net, 0)
    plain = CropLoss(fold, CROPS.model_copy(update={"contrast": "none"}), 0, CPU)
    x, labels = CropLoss(fold, options, 0, CPU).batches.of(0)
    features = net(x)[1]
    extra = (
        losses.all_pairs_contrastive(features, labels, options.margin)
        if contrast == "margin"
        else losses.supervised_contrastive(features, labels, options.temperature)
    )
    torch.testing.assert_close(both, plain(net, 0) + 0.5 * extra)
    assert extra > 0


def test_treated_copies_come_with_their_share_and_belong_to_the_same_image(planted):
    fold = planted(40)
    treatment = Treatment(share=0.5, variants=2)
    options = CROPS.model_copy(update={"treatment": treatment, "steps": 200})
    pool = Pool(fold, treatment, CPU)
    assert len(pool) == 40 and pool.copies == 3 and len(pool.pixels) == 3 * len(fold)
    for copy in range(3):
        pixels = treated(fold, treatment, copy - 1) if copy else fold.pixels
        found = pool.pixels[40 * copy :][:40].permute(0, 2, 3, 1)
        assert torch.equal(found, torch.from_numpy(pixels))
    batches = CropBatches.drawn(fold, options, 0, pool)
    copy, picture = batches.where // 40, batches.where % 40
    counts = torch.bincount(copy.flatten()) / copy.numel()
    np.testing.assert_allclose(counts, [0.5, 0.25, 0.25], atol=0.03)
    assert torch.equal(batches.labels, torch.from_numpy(fold.labels.astype(np.int64))[picture])
    # Whether a picture is treated says nothing of its class.
    treats, fakes = (copy > 0).float(), batches.labels == 1
    assert abs(treats[fakes].mean() - treats[~fakes].mean()) < 0.07


def test_a_training_draws_the_same_from_a_pool_of_its_own_and_from_one_of_many(planted):
    fold = planted(40)
    mine = fold.subset(np.r_[5:25, 30:38])
    treatment = Treatment(share=0.5, variants=2)
    options = CROPS.model_copy(update={"treatment": treatment})
    alone, among = (
        CropBatches.drawn(mine, options, 3, Pool(images, treatment, CPU)) for images in (mine, fold)
    )
    for step in range(options.steps):
        for one, other in zip(alone.of(step), among.of(step), strict=True):
            assert torch.equal(one, other)


@pytest.fixture
def nothing_ahead(monkeypatch):
    monkeypatch.setattr(objectives, "_ahead", {})
    monkeypatch.setattr(objectives, "has_gpu", lambda: False)


@pytest.mark.usefixtures("nothing_ahead")
def test_fits_share_the_pool_that_was_made_ahead_if_it_has_their_very_pictures(planted):
    fold, treatment = planted(40), Treatment(variants=2)
    assert Pool.of(fold, treatment, CPU) is not Pool.of(fold, treatment, CPU)
    ahead = Pool.ahead(fold, treatment, None)
    mine = fold.subset(np.r_[5:25, 30:38])
    assert Pool.of(mine, treatment, CPU) is ahead
    np.testing.assert_array_equal(ahead.copy(2), treated(fold, treatment, 1))
    # Another treatment, finish or picture, or the same ids with other pixels.
    assert Pool.of(mine, Treatment(variants=1), CPU) is not ahead
    assert Pool.of(mine, treatment, CPU, Jpeg(90)) is not ahead
    others = replace(mine, ids=np.array([f"other-{one}" for one in mine.ids]))
    assert len(Pool.of(others, treatment, CPU)) == len(mine)
    changed = replace(mine, pixels=255 - mine.pixels)
    np.testing.assert_array_equal(Pool.of(changed, treatment, CPU).copy(0), changed.pixels)


@pytest.mark.usefixtures("nothing_ahead")
def test_with_a_gpu_no_pool_is_made_before_the_fork_but_the_copies_are(planted, monkeypatch):
    monkeypatch.setattr(objectives, "has_gpu", lambda: True)
    made = []
    monkeypatch.setattr(objectives, "treated", lambda *given: made.append(given[2]))
    assert Pool.ahead(planted(8), Treatment(variants=3), None) is None
    assert made == [0, 1, 2]


def test_batches_side_by_side_are_those_of_each(planted):
    fold = planted(40)
    pool = Pool(fold, None, CPU)
    several = [CropBatches.drawn(fold, CROPS, seed, pool) for seed in (0, 1, 2)]
    both = CropBatches.beside(several)
    for step in (0, 7):
        x, labels = both.of(step)
        assert torch.equal(x, torch.cat([one.of(step)[0] for one in several]))
        assert torch.equal(labels, torch.cat([one.of(step)[1] for one in several]))
