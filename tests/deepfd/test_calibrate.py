import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from deepfd import calibrate
from pipeline.errors import UserError


def drawn(n=20_000, share=1.0, a=0.4, b=-0.7, seed=0):
    """Scores whose P(fake) at even odds is sigmoid(a logit + b); of the fakes `share` are kept."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 4, n)
    labels = (draw.random(n) < 1 / (1 + np.exp(-(a * logits + b)))).astype(int)
    keep = (labels == 0) | (draw.random(n) < share)
    return 1 / (1 + np.exp(-logits[keep])), labels[keep]


def test_it_is_the_class_balanced_logistic_regression_on_the_logit():
    scores, labels = drawn()
    found = calibrate.fit(scores, labels)
    reference = LogisticRegression(C=np.inf, class_weight="balanced", tol=1e-9)
    reference.fit(calibrate.logits(scores)[:, None], labels)
    # Platt's targets move it by the order of 1 / n.
    assert found["a"] == pytest.approx(reference.coef_[0, 0], abs=2e-3)
    assert found["b"] == pytest.approx(reference.intercept_[0], abs=2e-3)


def test_the_share_of_fakes_has_no_say():
    many, few = calibrate.fit(*drawn()), calibrate.fit(*drawn(n=200_000, share=0.1))
    assert few["a"] == pytest.approx(many["a"], abs=0.02)
    assert few["b"] == pytest.approx(many["b"], abs=0.06)


def test_calibrated_scores_mean_what_they_say_and_the_raw_ones_did_not():
    fitted = calibrate.fit(*drawn(seed=1))
    scores, labels = drawn(seed=2)
    weights = np.where(labels == 1, 0.5 / labels.mean(), 0.5 / (1 - labels.mean()))

    def error(p):
        places = np.digitize(p, np.linspace(0, 1, 11)[1:-1])
        gaps = [
            weights[places == k].sum()
            * abs(
                np.average(labels[places == k], weights=weights[places == k])
                - np.average(p[places == k], weights=weights[places == k])
            )
            for k in np.unique(places)
        ]
        return sum(gaps) / weights.sum()

    assert error(calibrate.apply(scores, fitted)) < 0.02 < error(scores)


@pytest.mark.parametrize("flip", [False, True])
def test_the_order_of_scores_stays_whatever_the_labels(flip):
    scores, labels = drawn(n=500)
    calibrated = calibrate.apply(np.sort(scores), calibrate.fit(scores, labels ^ flip))
    assert (np.diff(calibrated) >= 0).all()
    assert ((calibrated >= 0) & (calibrated <= 1)).all()


def test_classes_that_are_wholly_apart_stay_finite():
    scores = np.r_[np.zeros(60), np.ones(60)]
    labels = np.r_[np.zeros(60), np.ones(60)]
    calibrated = calibrate.apply(scores, calibrate.fit(scores, labels))
    assert calibrated[0] == pytest.approx(1 / 62, abs=1e-3)
    assert calibrated[-1] == pytest.approx(61 / 62, abs=1e-3)


def test_without_a_calibration_scores_stay():
    np.testing.assert_array_equal(calibrate.apply(np.array([0.0, 0.3]), None), [0.0, 0.3])


@pytest.mark.parametrize(
    ("scores", "labels", "match"),
    [
        ([0.1, 0.2], [0, 0], "2 photographs and 0 fakes"),
        ([0.1, 1.2], [0, 1], "outside"),
        ([0.1, np.nan], [0, 1], "outside"),
    ],
)
def test_what_cannot_be_calibrated_on_is_refused(scores, labels, match):
    with pytest.raises(UserError, match=match):
        calibrate.fit(np.array(scores), np.array(labels))
