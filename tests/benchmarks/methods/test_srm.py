from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import correlate
from sklearn.metrics import roc_auc_score

from benchmarks.components import components
from benchmarks.methods.srm import (
    DIFFERENCES,
    SQUARE,
    Options,
    Srm,
    filtered,
    luma_features,
    plane_features,
    quantised,
    srm_features,
)


@pytest.fixture
def planes() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 12, 12), dtype=np.uint8)


def orbit(triple):
    a, b, c = triple
    return min((a, b, c), (c, b, a), (-a, -b, -c), (-c, -b, -a))


def by_loop(plane: np.ndarray) -> list[float]:
    """The features of one plane, one residual and one triple at a time."""

    def counts(codes: np.ndarray, dy: int, dx: int, found: dict) -> None:
        height, width = codes.shape
        for y in range(height - 2 * dy):
            for x in range(width - 2 * dx):
                key = orbit([int(codes[y + n * dy, x + n * dx]) for n in range(3)])
                found[key] = found.get(key, 0) + 1

    def residuals(kernel) -> np.ndarray:
        kernel = np.array(kernel)
        height, width = (s - k + 1 for s, k in zip(plane.shape, kernel.shape, strict=True))
        return np.array(
            [
                [
                    (kernel * plane[y : y + kernel.shape[0], x : x + kernel.shape[1]]).sum()
                    for x in range(width)
                ]
                for y in range(height)
            ]
        )

    def codes(values: np.ndarray, step: int) -> np.ndarray:
        rounded = np.sign(values) * np.floor(np.abs(values) / step + 0.5)
        return np.clip(rounded, -2, 2)

    def shares(found: dict) -> list[float]:
        every = sorted({orbit((a, b, c)) for a in R for b in R for c in R})
        total = sum(found.values())
        return [(found.get(key, 0) / total) ** 0.5 for key in every]

    R = range(-2, 3)
    plane = plane.astype(int)
    features: list[float] = []
    for kernel, divisor in DIFFERENCES.values():
        row = np.array([kernel])
        for step in (1, 2):
            along, across = {}, {}
            for turned, (dy, dx) in ((row, (0, 1)), (row.T, (1, 0))):
                found = codes(residuals(turned), divisor * step)
                counts(found, dy, dx, along)
                counts(found, dx, dy, across)
            features += shares(along) + shares(across)
    for kernel, divisor in SQUARE.values():
        for step in (1, 2):
            both: dict = {}
            for dy, dx in ((0, 1), (1, 0)):
                counts(codes(residuals(kernel), divisor * step), dy, dx, both)
            features += shares(both)
    return features


def test_the_features_are_those_of_a_plain_loop():
    # A gentle picture: residuals of one or two steps and not all beyond the cut.
    smooth = np.random.default_rng(1).integers(0, 4, (2, 12, 12)).cumsum(axis=2) + 90
    found = plane_features(smooth.astype(np.uint8))
    assert found.shape == (2, 624) and found.dtype == np.float64
    for n in range(2):
        np.testing.assert_allclose(found[n], by_loop(smooth[n]), atol=1e-12)


@pytest.mark.parametrize("kernel", [one for one, _ in SQUARE.values()])
def test_residuals_equal_those_of_scipy_and_do_not_overflow(kernel, planes):
    planes[0] = 255 * (np.array(np.indices((12, 12))).sum(0) % 2)  # the largest residuals there are
    edge = len(kernel) // 2
    for plane, found in zip(planes, filtered(planes.astype(np.int16), kernel), strict=True):
        expected = correlate(plane.astype(int), np.array(kernel))[edge:-edge, edge:-edge]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("step", [1, 2, 3, 12, 24])
def test_quantisation_rounds_half_away_from_zero_and_truncates(step):
    values = np.arange(-12_240, 12_241, dtype=np.int16)
    rounded = np.sign(values) * np.floor(np.abs(values.astype(int)) / step + 0.5)
    np.testing.assert_array_equal(quantised(values, step), np.clip(rounded, -2, 2) + 2)


def test_every_kernel_is_blind_to_flat_areas():
    for kernel, _ in DIFFERENCES.values():
        assert sum(kernel) == 0
    for kernel, divisor in SQUARE.values():
        side = len(kernel)
        assert np.sum(kernel) == 0 and abs(kernel[side // 2][side // 2]) == divisor


def test_a_turned_mirrored_or_negative_plane_has_the_same_features(planes):
    expected = plane_features(planes)
    for other in (planes.swapaxes(1, 2), planes[:, ::-1], planes[..., ::-1], 255 - planes):
        np.testing.assert_array_equal(plane_features(other), expected)


def test_colour_pictures_give_luma_and_chroma_and_grey_ones_luma():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3), dtype=np.uint8)
    planes = components(pixels, ("Y", "Cb", "Cr"))
    expected = np.hstack([plane_features(plane) for plane in planes.values()])
    np.testing.assert_array_equal(srm_features(pixels), expected)
    np.testing.assert_array_equal(luma_features(pixels), expected[:, :624])
    np.testing.assert_array_equal(srm_features(pixels[..., :1]), plane_features(pixels[..., 0]))


def test_an_images_features_are_the_same_bits_in_every_batch():
    pixels = np.random.default_rng(0).integers(0, 256, (70, 16, 16, 1), dtype=np.uint8)
    whole = srm_features.__wrapped__(pixels)
    for start, stop in ((0, 1), (31, 33), (5, 70)):
        np.testing.assert_array_equal(
            srm_features.__wrapped__(pixels[start:stop]), whole[start:stop]
        )


def test_a_trace_of_one_grey_level_is_found(planted):
    train, test = planted(160, strength=1), planted(160, strength=1, seed=1)
    train, test = (replace(one, pixels=one.pixels // 4) for one in (train, test))
    detector = Srm.fit(train, test, Options(method="srm"), 0)
    assert detector.weight.shape == (624,)
    assert roc_auc_score(test.labels, detector.score(test.pixels)) > 0.6
