"""What faithful, deepfd and plain must all do."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from benchmarks.methods import load_method
from deepfd import data
from deepfd.options import DeepFD, Faithful, Npr, Plain
from pipeline.errors import UserError

pytestmark = pytest.mark.numbers

SLIM = {"widths": (8, 16), "crop": 16, "batch": 16, "lr": 0.01}
OPTIONS = {
    # The authors' rate falls early, so on few steps theirs begins higher.
    "faithful": Faithful(
        method="faithful", width=8, contrastive_steps=8, classifier_steps=72, batch=16, lr=0.01,
        validate_every=20,
    ),
    "deepfd": DeepFD(method="deepfd", steps=80, **SLIM),
    "plain": Plain(method="plain", steps=80, **SLIM),
    "npr": Npr(method="npr", width=8, steps=60, batch=16, lr=0.005, crop=32),
}  # fmt: skip
SHORT = {
    name: one.model_copy(
        update={"contrastive_steps": 3, "classifier_steps": 6}
        if name == "faithful"
        else {"steps": 9}
    )
    for name, one in OPTIONS.items()
}
every_method = pytest.mark.parametrize("name", list(OPTIONS))


@every_method
def test_a_planted_signal_is_learnt(name, planted):
    method = load_method(name).fit(planted(120), planted(40, seed=1), OPTIONS[name], seed=0)
    test = planted(80, seed=2)
    assert method.valid_scores.shape == (40,)
    scores = method.score(test.pixels)
    assert scores.dtype == np.float64
    assert scores.shape == (80,)
    assert 0 <= scores.min() <= scores.max() <= 1
    assert roc_auc_score(test.labels, scores) > 0.95


@every_method
def test_shuffled_labels_teach_nothing(name, planted):
    train, valid = planted(120, shuffled=True), planted(40, seed=1, shuffled=True)
    method = load_method(name).fit(train, valid, OPTIONS[name], seed=0)
    test = planted(300, seed=2, shuffled=True)
    # Standard deviation of the AUC of chance for 150 against 150: 0.033.
    assert abs(roc_auc_score(test.labels, method.score(test.pixels)) - 0.5) < 0.12


@every_method
@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_seed_gives_the_same_bits_also_after_save_and_load(
    name, channels, planted, tmp_path
):
    folds = planted(40, channels=channels), planted(20, channels=channels, seed=1)
    test = planted(10, channels=channels, seed=2).pixels
    method = load_method(name)
    first = method.fit(*folds, SHORT[name], seed=0)
    torch.rand(3)
    np.random.rand(3)
    scores = first.score(test)
    np.testing.assert_array_equal(method.fit(*folds, SHORT[name], seed=0).score(test), scores)
    assert not np.array_equal(method.fit(*folds, SHORT[name], seed=1).score(test), scores)
    first.save(tmp_path)
    loaded = method.load(tmp_path)
    assert isinstance(loaded, method)
    assert loaded.about == first.about
    np.testing.assert_array_equal(loaded.score(test), scores)


@every_method
def test_neither_labels_of_valid_nor_its_pixels_change_what_is_trained(name, planted):
    """Only which checkpoint is kept may depend on valid: with one checkpoint, nothing does."""
    options = SHORT[name]
    if name == "faithful":
        options = options.model_copy(update={"validate_every": 1000})
    test = planted(10, seed=2).pixels
    one, other = (
        load_method(name).fit(planted(40), planted(20, seed=seed), options, seed=0).score(test)
        for seed in (1, 5)
    )
    np.testing.assert_array_equal(one, other)


def test_plain_sees_the_crops_of_deepfd_in_the_same_order(planted, monkeypatch):
    seen = {"deepfd": [], "plain": []}
    cut = data.Crops.cut
    for name, found in seen.items():
        monkeypatch.setattr(
            data.Crops,
            "cut",
            lambda *args, found=found: found.append(cut(*args)) or found[-1],
        )
        load_method(name).fit(planted(40), planted(20, seed=1), SHORT[name], seed=0)
    assert len(seen["deepfd"]) == len(seen["plain"]) == 9
    assert all(map(torch.equal, *seen.values()))


@pytest.mark.parametrize("off", [{"contrast": "none"}, {"contrast_weight": 0.0}])
def test_deepfd_without_its_contrastive_loss_is_plain(planted, off):
    folds, test = (planted(40), planted(20, seed=1)), planted(10, seed=2).pixels
    options = SHORT["deepfd"].model_copy(update=off)
    found = load_method("deepfd").fit(*folds, options, seed=0).score(test)
    plain = load_method("plain").fit(*folds, SHORT["plain"], seed=0).score(test)
    np.testing.assert_allclose(found, plain, rtol=0, atol=1e-7)


def test_plain_cannot_be_given_a_contrastive_loss():
    with pytest.raises(ValueError, match="contrast"):
        Plain(method="plain", steps=1, contrast="margin", **SLIM)


def test_faithful_pairs_bear_their_own_labels(planted):
    """The authors' code took each pair's label from another batch; here they belong together."""
    fold = planted(40)
    for first, second, same in data.pair_batches(fold, 5, 8, seed=0):
        assert ((fold.labels[first] == fold.labels[second]) == same.numpy()).all()


@every_method
def test_the_mean_of_the_evidence_is_the_logit_of_the_score(name, planted):
    model = load_method(name).fit(planted(40), planted(20, seed=1), SHORT[name], seed=0)
    pixels = planted(20, seed=2).pixels
    scores = model.score(pixels)
    mean = model.evidence(pixels).mean(axis=(1, 2))
    np.testing.assert_allclose(mean, np.log(scores / (1 - scores)), rtol=1e-4, atol=1e-4)


@every_method
def test_a_fold_without_fakes_is_refused(name, planted):
    train = planted(20)
    with pytest.raises(UserError, match="10 photographs and 0 fakes"):
        load_method(name).fit(
            train.subset(train.labels == 0), planted(20, seed=1), SHORT[name], seed=0
        )
