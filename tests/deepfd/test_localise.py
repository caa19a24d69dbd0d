import numpy as np
import pytest
from PIL import Image

from benchmarks.methods.deepfd import DeepFD
from deepfd import localise
from deepfd.detector import Detector, Network
from deepfd.options import Plain
from pipeline.images import to_pil

pytestmark = pytest.mark.numbers

SIZE, HALF = 96, 48


def test_the_map_is_highest_in_the_quadrant_that_was_faked(planted):
    options = Plain(method="plain", widths=(8, 16), steps=120, batch=16, lr=0.01)
    folds = [planted(count, size=SIZE, seed=seed) for seed, count in enumerate((160, 40))]
    detector = DeepFD.fit(*folds, options, seed=0)
    # Into each photograph one quadrant of a fake is put.
    test = planted(40, size=SIZE, seed=2)
    spliced, fakes = test.pixels[test.labels == 0].copy(), test.pixels[test.labels == 1]
    corners = [(top, left) for top in (0, HALF) for left in (0, HALF)]
    hits = 0
    for i, (one, fake) in enumerate(zip(spliced, fakes, strict=True)):
        top, left = corners[i % 4]
        one[top : top + HALF, left : left + HALF] = fake[top : top + HALF, left : left + HALF]
        heat = localise.heat_maps(detector, one[None])[0]
        means = [heat[y : y + HALF, x : x + HALF].mean() for y, x in corners]
        hits += corners[int(np.argmax(means))] == (top, left)
    assert hits >= 0.8 * len(spliced)  # 0.25 by chance


def test_the_mean_of_the_evidence_is_the_logit_of_the_score():
    detector = Detector(Network(1, 32, body={"kind": "paper", "width": 6}, seed=0))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1)).astype(np.uint8)
    scores = detector.score(pixels)
    logits = detector.evidence(pixels).mean(axis=(1, 2))
    np.testing.assert_allclose(np.log(scores / (1 - scores)), logits, atol=1e-5)


def test_no_picture_gives_no_map():
    detector = Detector(Network(1, 32, body={"kind": "paper", "width": 6}, seed=0))
    assert localise.heat_maps(detector, np.empty((0, 32, 32, 1), np.uint8)).shape == (0, 32, 32)


def test_the_overlay_is_red_where_fake_blue_where_not_and_leaves_the_rest():
    picture = to_pil(np.full((20, 30, 1), 128, np.uint8))
    heat = np.zeros((20, 30), np.float32)
    heat[:, :10], heat[:, 20:] = 4, -9
    out = np.asarray(localise.overlay(picture, heat)).astype(int)
    assert out.shape == (20, 30, 3)
    assert out[10, 2, 0] > out[10, 2, 2] + 50
    assert out[10, 27, 2] > out[10, 27, 0] + 50
    assert out[10, 15] == pytest.approx(128, abs=1)


def test_a_map_that_says_nothing_changes_nothing():
    picture = Image.new("RGB", (8, 8), (10, 20, 30))
    out = localise.overlay(picture, np.zeros((4, 4), np.float32))
    assert out.getpixel((3, 3)) == (10, 20, 30)
