"""Spectrum, DCT and the logistic regression on them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.fft import dct
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.methods.dct import FLOOR, Dct, log_dct
from benchmarks.methods.linear import Linear, Options
from benchmarks.methods.spectrum import Spectrum, radial_spectrum
from deepfd.options import Treatment
from deepfd.treatment import treated
from pipeline.errors import UserError


def test_radial_spectrum_equals_a_plain_loop():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 1)).astype(np.uint8)
    found = radial_spectrum(pixels)
    for image, spectrum in zip(pixels, found, strict=True):
        power = np.log(np.abs(np.fft.fftshift(np.fft.fft2(image[..., 0] / 255))) ** 2 + 1e-6)
        rings = [[] for _ in spectrum]
        for y in range(16):
            for x in range(16):
                rings[round(((y - 8) ** 2 + (x - 8) ** 2) ** 0.5)].append(power[y, x])
        assert spectrum == pytest.approx([np.mean(ring) for ring in rings], abs=1e-9)


def test_a_wave_raises_the_spectrum_at_its_frequency():
    noise = np.random.default_rng(0).normal(127, 5, (64, 64))
    wave = 40 * np.cos(2 * np.pi * 12 * np.arange(64) / 64)
    pixels = np.stack([noise, noise + wave])[..., None].astype(np.uint8)
    without, with_wave = radial_spectrum(pixels)
    assert (with_wave - without).argmax() == 12


def test_grey_as_colour_has_the_same_spectrum():
    grey = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 1)).astype(np.uint8)
    assert radial_spectrum(grey.repeat(3, -1)) == pytest.approx(radial_spectrum(grey), abs=1e-6)


def test_log_dct_is_the_separable_transform_of_each_channel():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    found = log_dct(pixels).reshape(2, 8, 8, 3)
    for channel in range(3):
        rows = dct(pixels[1, :, :, channel].astype(float), axis=0, norm="ortho")
        both = dct(rows, axis=1, norm="ortho")
        assert found[1, :, :, channel] == pytest.approx(np.log(np.abs(both) + FLOOR), abs=1e-6)


@pytest.mark.parametrize("kind", [Spectrum, Dct])
def test_scores_are_those_of_the_optimum_itself(kind, planted):
    train, test = planted(60), planted(20, seed=1)
    model = kind.fit(train, test, Options(c=0.1), seed=0)
    # Another solver, so that no early stop is shared.
    newton = LogisticRegression(C=0.1, class_weight="balanced", solver="newton-cholesky", tol=1e-12)
    reference = make_pipeline(StandardScaler(), newton)
    reference.fit(kind.features(train.pixels), train.labels)
    expected = reference.predict_proba(kind.features(test.pixels))[:, 1]
    assert model.score(test.pixels) == pytest.approx(expected, abs=1e-5)
    assert roc_auc_score(test.labels, model.score(test.pixels)) > 0.95


@pytest.mark.parametrize("kind", [Spectrum, Dct])
def test_shuffled_labels_teach_nothing(kind, planted):
    train, test = planted(200, shuffled=True), planted(300, seed=1, shuffled=True)
    model = kind.fit(train, test, Options(c=0.01), seed=0)
    # Standard deviation of the AUC of chance for 150 against 150: 0.033.
    assert abs(roc_auc_score(test.labels, model.score(test.pixels)) - 0.5) < 0.12


def test_a_solver_that_does_not_converge_is_an_error(planted, monkeypatch):
    monkeypatch.setattr("benchmarks.methods.linear.MAX_ITERATIONS", 1)
    with pytest.raises(UserError, match="did not converge in 1 iterations with c = 1000"):
        Spectrum.fit(planted(40), planted(10), Options(c=1000.0), seed=0)


def test_treated_copies_weigh_as_much_as_in_a_batch_of_deepfd(planted):
    train, test = planted(60), planted(20, seed=1)
    treatment = Treatment(share=0.75, variants=2, soft_photographs=None)
    model = Spectrum.fit(train, test, Options(c=0.1, treatment=treatment), seed=0)
    # Each picture twice as it is and each copy three times: 2 of 8, a quarter, are as they are.
    copies = [treated(train, treatment, number) for number in (0, 1)]
    blocks = [train.pixels] * 2 + copies * 3
    features = radial_spectrum(np.concatenate(blocks))
    mean, scale = features.mean(axis=0), features.std(axis=0)
    newton = LogisticRegression(C=0.1 / 8, class_weight="balanced", solver="newton-cholesky")
    newton.set_params(tol=1e-12).fit((features - mean) / scale, np.tile(train.labels, 8))
    expected = newton.predict_proba((radial_spectrum(test.pixels) - mean) / scale)[:, 1]
    assert model.score(test.pixels) == pytest.approx(expected, abs=1e-5)


def test_linear_methods_draw_nothing():
    assert Linear.deterministic
