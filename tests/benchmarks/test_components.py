from __future__ import annotations

import colorsys

import numpy as np
import pytest

from benchmarks.components import COMPONENTS, DIRECTIONS, components, quantised, residual
from pipeline.errors import UserError


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 9, 11, 3), dtype=np.uint8)


def test_hsv_is_that_of_the_standard_library_times_255(pixels):
    found = components(pixels, ("H", "S", "V"))
    for place in np.ndindex(pixels.shape[:3]):
        expected = colorsys.rgb_to_hsv(*(pixels[place] / 255))
        for name, value in zip("HSV", expected, strict=True):
            assert abs(found[name][place] - 255 * value) <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("rgb", "ycbcr"),  # BT.601 studio range: MATLAB's rgb2ycbcr
    [
        ((0, 0, 0), (16, 128, 128)),
        ((255, 255, 255), (235, 128, 128)),
        ((255, 0, 0), (81, 90, 240)),
        ((0, 255, 0), (145, 54, 34)),
        ((0, 0, 255), (41, 240, 110)),
    ],
)
def test_ycbcr_of_the_primaries(rgb, ycbcr):
    found = components(np.array(rgb, np.uint8).reshape(1, 1, 1, 3), ("Y", "Cb", "Cr"))
    assert tuple(int(plane.item()) for plane in found.values()) == ycbcr


def test_all_nine_come_in_the_order_asked_for(pixels):
    found = components(pixels)
    assert tuple(found) == COMPONENTS
    assert all(p.dtype == np.uint8 and p.shape == pixels.shape[:3] for p in found.values())
    assert list(components(pixels, ("Cr", "R"))) == ["Cr", "R"]
    np.testing.assert_array_equal(found["B"], pixels[..., 2])


def test_residuals_are_those_of_a_plain_loop(pixels):
    plane = pixels[..., 0]
    for way, (down, right) in DIRECTIONS.items():
        found = residual(plane, way)
        assert found.shape == (3, 7, 9)
        for n, y, x in np.ndindex(found.shape):
            here = int(plane[n, y + 1, x + 1])
            assert found[n, y, x] == int(plane[n, y + 1 + down, x + 1 + right]) - here


def test_quantisation_has_five_bins():
    values = np.array([-255, -2, -1, 0, 1, 2, 255], np.int16)
    assert quantised(values).tolist() == [0, 0, 1, 2, 3, 4, 4]


def test_grey_pictures_are_refused_in_one_clear_line():
    with pytest.raises(UserError, match=r"needs colour and the pictures have 1 channel; choose"):
        components(np.zeros((1, 4, 4, 1), np.uint8))
