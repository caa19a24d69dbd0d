from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.components import DIRECTIONS, components
from benchmarks.methods.colour import (
    Colour,
    ColourRgb,
    Options,
    colour_features,
    cooccurrences,
    rgb_features,
)
from pipeline.errors import UserError
from pipeline.folds import Images


@pytest.fixture
def pixels() -> np.ndarray:
    smooth = np.random.default_rng(0).integers(0, 6, (3, 12, 10, 3)).cumsum(axis=2)
    return (90 + smooth).astype(np.uint8)


def triples(codes: np.ndarray) -> dict[tuple[int, ...], float]:
    """Share of each triple along rows plus that along columns of one image, by a plain loop."""
    found: dict[tuple[int, ...], float] = {}
    for one in (codes, codes.T):
        height, width = one.shape
        for y, x in itertools.product(range(height), range(width - 2)):
            a, b, c = (int(v) for v in one[y, x : x + 3])
            key = min((a, b, c), (c, b, a))
            found[key] = found.get(key, 0) + 1 / (height * (width - 2))
    return found


def by_loop(codes_of_each_way: list[np.ndarray], levels: int) -> list[float]:
    every = sorted({min(t, t[::-1]) for t in itertools.product(range(levels), repeat=3)})
    found = [triples(codes) for codes in codes_of_each_way]
    return [sum(one.get(key, 0) for one in found) for key in every]


def test_each_direction_is_normalised_by_its_count(pixels):
    found = cooccurrences(pixels[..., 0] % 5, 5)
    np.testing.assert_allclose(found.sum(axis=1), 2)


def test_the_300_features_are_those_of_a_plain_loop(pixels):
    found = colour_features(pixels)
    assert found.shape == (3, 300) and found.dtype == np.float64
    for n in range(3):
        expected = []
        for plane in components(pixels, ("H", "S", "Cb", "Cr")).values():
            one = plane[n].astype(int)
            codes = [
                np.clip(np.roll(one, (-down, -right), (0, 1)) - one, -2, 2)[1:-1, 1:-1] + 2
                for down, right in DIRECTIONS.values()
            ]
            expected += by_loop(codes, 5)
        np.testing.assert_allclose(found[n], expected, atol=1e-12)


def test_the_288_rgb_features_are_those_of_a_plain_loop(pixels):
    found = rgb_features(pixels)
    assert found.shape == (3, 288)
    for n in range(3):
        one = pixels[n].astype(int)
        codes = []
        for down, right in DIRECTIONS.values():
            larger = (one > np.roll(one, (-down, -right), (0, 1)))[1:-1, 1:-1]
            codes.append(larger @ np.array([4, 2, 1]))
        np.testing.assert_allclose(found[n], by_loop(codes, 8), atol=1e-12)


@pytest.mark.parametrize(("method", "count"), [(Colour, 300), (ColourRgb, 588)])
def test_fakes_with_smooth_chroma_are_found(method, count, planted):
    def grained(seed: int) -> Images:
        fold, draw = planted(120, channels=3, seed=seed, strength=0), np.random.default_rng(seed)
        noise = draw.normal(0, 4, fold.pixels.shape)
        fake = (fold.labels == 1)[:, None, None, None]
        noise = np.where(fake, noise[..., :1], noise)  # fakes: the same grain in R, G and B
        base = fold.pixels[:, :1, :1].astype(float)
        return replace(fold, pixels=np.clip(base + noise, 0, 255).astype(np.uint8))

    train, test = grained(0), grained(1)
    detector = method.fit(train, test, Options(method="colour"), 0)
    assert detector.weight.shape == (count,)
    scores = detector.score(test.pixels)
    assert scores[test.labels == 1].min() > scores[test.labels == 0].max()


@pytest.mark.parametrize("method", [Colour, ColourRgb])
def test_grey_faces_are_refused_in_one_clear_line(method, planted):
    train = planted(20)
    with pytest.raises(UserError, match=r"method colour needs colour and the pictures have 1 ch"):
        method.fit(train, train, Options(method="colour"), 0)
