"""D2 fitted anew on whole pictures: what is drawn, how far it goes, what it leaves alone."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from benchmarks.methods.deepfd import DeepFD as Method
from benchmarks.methods.deepfd import architecture
from deepfd import refit as module
from deepfd.detector import Detector, Network
from deepfd.options import DeepFD, Refit, Treatment
from deepfd.refit import PENALTIES, all_shown, fitted, looked_at, refit, shown, softened
from deepfd.treatment import treated, varied

pytestmark = pytest.mark.numbers

OPTIONS = DeepFD(
    method="deepfd", widths=(4, 8), crop=16, steps=40, batch=16,
    treatment=Treatment(variants=1), refit=Refit(pictures=64, soft=1.0, penalty=0.01),
)  # fmt: skip


@pytest.fixture
def images(planted):
    return planted(160, strength=6), planted(80, seed=1, strength=6)


@pytest.fixture
def trained(images):
    """A network after its crops, and after the refit that the options ask for."""

    def fit(**others):
        options = OPTIONS.model_copy(update={"refit": None, **others})
        return Method.fit(*images, options, seed=0)

    return fit


def again(network, images, **others):
    options = OPTIONS.model_copy(
        update={"refit": Refit(**{"pictures": 64, "penalty": 0.01} | others)}
    )
    train, valid = images
    return refit(network, train, valid, options, 0, None)


def ways(images, shown_, finish=None):
    """Share of pictures that are shown treated, varied, and as they are."""
    several = (treated(images, OPTIONS.treatment, 0, finish), varied(images, finish), images.pixels)
    found = [(shown_ == one).all((1, 2, 3)) for one in several]
    # A copy may have met nothing.
    return [(one & ~found[2]).mean() for one in found[:2]] + [found[2].mean()]


@pytest.mark.parametrize("share, varies", [(0.0, 0.0), (0.5, 0.0), (0.3, 0.4), (0.0, 1.0)])
def test_as_many_pictures_are_treated_and_varied_as_the_options_say(share, varies, planted):
    images = planted(400, channels=3)
    options = OPTIONS.model_copy(update={"refit": Refit(share=share, varied=varies)})
    found = ways(images, shown(images, options, None))
    unchanged = 1 - (treated(images, OPTIONS.treatment, 0) != images.pixels).any((1, 2, 3)).mean()
    expected = [share * (1 - unchanged), varies, 1 - varies - share * (1 - unchanged)]
    np.testing.assert_allclose(found, expected, atol=0.08)


def test_a_picture_is_shown_in_one_way_whoever_asks_for_it(planted, monkeypatch):
    images, order = planted(60, channels=3), np.array([40, 3, 17])
    options = OPTIONS.model_copy(update={"refit": Refit(share=0.4, varied=0.4)})
    whole = shown(images, options, None)

    def nothing_new(some, finish, copy):  # what was made is not made again
        assert not len(some)
        return some.pixels

    monkeypatch.setattr(module, "varied", nothing_new)
    assert np.array_equal(shown(images.subset(order), options, None), whole[order])
    assert shown(images.subset(order[:0]), options, None).shape == (0, *whole.shape[1:])
    bare = options.model_copy(update={"treatment": None})
    monkeypatch.undo()
    assert ways(images, shown(images, bare, None))[0] == 0  # nothing to treat them with


def test_a_picture_that_is_shown_again_is_shown_in_another_way(planted):
    images = planted(200, channels=3)
    options = OPTIONS.model_copy(update={"refit": Refit(share=0.4, varied=0.4)})
    first, second = (shown(images, options, None, copy) for copy in (0, 1))
    assert (first != second).any((1, 2, 3)).mean() > 0.7  # where both are as they are, the same
    copies = np.arange(200) % 2
    module._shown.clear()
    both = shown(images, options, None, copies)
    assert np.array_equal(both, np.where(copies[:, None, None, None], second, first))


def test_what_fits_will_be_shown_has_further_copies_of_small_sources_alone(planted):
    images = planted(300, channels=3)
    photographs = np.flatnonzero(images.labels == 0)
    names = images.generators.astype("U20")
    names[photographs[:20]] = "real:small"
    images = dataclasses.replace(images, generators=names)
    options = OPTIONS.model_copy(update={"refit": Refit(pictures=200, share=0.4, varied=0.4)})
    first, *more = all_shown(images, options, None)
    assert np.array_equal(first, shown(images, options, None))
    # Of 100 photographs 50 are of the small collection: each of its 20 is drawn up to three times.
    assert [len(one) for one in more] == [20, 20]
    small = images.subset(photographs[:20])
    assert np.array_equal(more[1], shown(small, options, None, 2))
    assert all_shown(images, options.model_copy(update={"refit": None}), None) == []


def test_fakes_can_be_varied_more_often_than_photographs(planted):
    images = planted(400, channels=3)
    options = OPTIONS.model_copy(update={"refit": Refit(share=0, varied=0.2, varied_fakes=0.8)})
    changed = (shown(images, options, None) != images.pixels).any((1, 2, 3))
    for label, expected in ((0, 0.2), (1, 0.8)):
        assert changed[images.labels == label].mean() == pytest.approx(expected, abs=0.1)


def test_shares_that_are_more_than_all_are_refused():
    with pytest.raises(ValidationError, match=r"share 0.7 and varied 0.5 .* expected at most 1"):
        Refit(share=0.7, varied=0.5)
    with pytest.raises(ValidationError, match=r"add up to 1\.2"):
        Refit(share=0.3, varied=0.5, varied_fakes=0.9)


def test_the_boundary_is_what_d2_says_of_a_pictures_means():
    network = Network(1, 32, **architecture(OPTIONS), seed=0)
    weights, bias = 0.05 * torch.randn(8, generator=torch.Generator().manual_seed(0)), 0.3
    network.d2.set_boundary(weights, torch.tensor(bias))
    found, offset = network.d2.boundary()
    torch.testing.assert_close(found, weights)
    assert float(offset) == pytest.approx(bias)
    detector = Detector(network)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 1), dtype=np.uint8)
    logits = detector.pooled(pixels) @ weights.numpy() + bias
    scores = detector.score(pixels)
    np.testing.assert_allclose(np.log(scores / (1 - scores)), logits, atol=1e-4)
    np.testing.assert_allclose(detector.evidence(pixels).mean(axis=(1, 2)), logits, atol=1e-4)


def test_without_a_border_the_boundary_of_the_crops_is_d2s_own(trained):
    detector = trained()
    detector.network.d2.before[2].padding = (0, 0)  # a constant map has no border then
    maps = torch.randn(3, 8, 1, 1, generator=torch.Generator().manual_seed(0)).expand(3, 8, 6, 6)
    weights, bias = detector.network.d2.boundary()
    logits = detector.network.d2(maps)
    expected = detector.network.d2.pooled(maps) @ weights + bias
    torch.testing.assert_close(logits[:, 1] - logits[:, 0], expected, atol=1e-5, rtol=1e-4)


def test_from_nothing_it_is_logistic_regression_and_with_a_large_penalty_it_stays():
    draw = np.random.default_rng(0)
    labels = np.arange(300) % 2
    x = draw.normal(size=(300, 4)) * [1, 5, 0.1, 2] + labels[:, None] * [0.5, 2, 0.05, 0]
    weights, bias = fitted(x, labels, (np.zeros(4), 0.0), 0.1)
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(C=1 / (0.1 * 300), tol=1e-8).fit(scaler.transform(x), labels)
    np.testing.assert_allclose(
        x @ weights + bias, model.decision_function(scaler.transform(x)), atol=1e-3
    )
    start = np.array([0.3, -0.1, 2.0, 0.2])
    far, _ = fitted(x, labels, (start, 0.0), 1e6)
    np.testing.assert_allclose(far, start, rtol=1e-3)


def test_of_a_smaller_spread_a_feature_has_a_smaller_say():
    draw = np.random.default_rng(0)
    labels, spreads = np.arange(300) % 2, np.array([1.0, 0.4, 1.0])
    x = (draw.normal(size=(300, 3)) + labels[:, None]).astype(np.float32)
    weights, bias = fitted(x, labels, (np.zeros(3), 0.0), 0.1, spreads)
    scaled = StandardScaler().fit_transform(x) * spreads
    model = LogisticRegression(C=1 / (0.1 * 300), tol=1e-8).fit(scaled, labels)
    np.testing.assert_allclose(x @ weights + bias, model.decision_function(scaled), atol=1e-3)
    assert weights[1] < 0.7 * weights[[0, 2]].min()


def test_it_goes_as_far_as_soft_photographs_allow_and_says_how_far(trained, images):
    before = trained()
    shares = {}
    for cap in (1.0, 0.3, 0.0):
        network = copy.deepcopy(before.network)
        found = again(network, images, soft=cap)["refit"]
        shares[cap] = found
        photographs = looked_at(images[1])
        detector = Detector(copy.deepcopy(network))
        threshold = np.quantile(detector.score(photographs.pixels), 0.95)
        called = detector.score(softened(photographs, OPTIONS, None)) > threshold
        assert found["penalty"] is None or found["soft"] <= cap
        assert called.mean() == pytest.approx(found["soft"], abs=0.03)
    assert shares[1.0]["penalty"] == PENALTIES[-1]
    sizes = [one["penalty"] or np.inf for one in shares.values()]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("pictures, most", [(64, 1), (400, 3)])
def test_it_is_fitted_on_pictures_as_they_are_shown_each_read_once(
    pictures, most, trained, images, monkeypatch
):
    seen, pooled = [], Detector.pooled

    def counted(self, pixels):
        seen.append(pixels)
        return pooled(self, pixels)

    monkeypatch.setattr(Detector, "pooled", counted)
    network, (train, _) = trained().network, images
    again(network, images, pictures=pictures, share=0.3, varied=0.4)
    refit = Refit(pictures=pictures, share=0.3, varied=0.4)
    options = OPTIONS.model_copy(update={"refit": refit})
    ways = [{one.tobytes() for one in shown(train, options, None, copy)} for copy in range(most)]
    drawn = [one.tobytes() for one in seen[0]]
    assert len(drawn) <= pictures and set().union(*ways).issuperset(drawn)
    assert all(way.intersection(drawn) for way in ways)  # 400 of 160: each up to three times
    assert most > 1 or len(set(drawn)) == len(drawn)


def test_where_soft_photographs_allow_nothing_d2_stays_as_it_is(trained, images, monkeypatch):
    before = trained()
    network = copy.deepcopy(before.network)
    monkeypatch.setattr(module, "CALLED", 1.0)  # every photograph lies above such a threshold
    found = again(network, images, soft=0.0)["refit"]
    assert found["penalty"] is None
    state = network.state_dict()
    assert all(torch.equal(state[k], v) for k, v in before.network.state_dict().items())


def test_d1_is_left_alone_and_whole_pictures_are_told_better(trained, images):
    before, after = trained(), trained(refit=OPTIONS.refit)
    old, new = before.network.state_dict(), after.network.state_dict()
    assert all(torch.equal(new[k], v) for k, v in old.items() if k.startswith("d1."))
    assert after.about["refit"]["penalty"] == PENALTIES[-1]
    assert "refit" not in before.about

    def loss(detector, fold):
        score = np.clip(detector.score(fold.pixels), 1e-6, 1 - 1e-6)
        return -np.log(np.where(fold.labels == 1, score, 1 - score)).mean()

    assert loss(after, images[0]) < loss(before, images[0])
    assert after.about["valid"]["loss"] != before.about["valid"]["loss"]  # judged after it


def test_it_is_the_same_again_and_depends_on_the_seed(images):
    one, same, other = (Method.fit(*images, OPTIONS, seed=seed) for seed in (0, 0, 1))
    pixels = images[1].pixels
    assert np.array_equal(one.score(pixels), same.score(pixels))
    assert not np.array_equal(one.score(pixels), other.score(pixels))


def test_the_photographs_that_are_looked_at_are_photographs_in_any_order(planted):
    images = planted(60)
    order = np.random.default_rng(1).permutation(60)
    one, other = looked_at(images), looked_at(images.subset(order))
    assert one.ids.tolist() == other.ids.tolist()
    assert not one.labels.any() and len(one) == 30
