import numpy as np
import pytest
from PIL import Image

from pipeline.changes import enlarged, toned

DRAW = np.random.default_rng(0)


def test_a_part_comes_to_the_size_of_the_whole_from_where_it_lies():
    quarters = np.zeros((8, 8), np.uint8)
    quarters[:4, 4:], quarters[4:, :4], quarters[4:, 4:] = 80, 160, 240
    picture, nearest = Image.fromarray(quarters), Image.Resampling.NEAREST
    for at, value in (((0, 0), 0), ((1, 0), 80), ((0, 1), 160), ((1, 1), 240)):
        found = np.asarray(enlarged(picture, DRAW, 0.5, at, nearest))
        assert found.shape == (8, 8) and (found == value).all()


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_whole_as_a_part_stays_what_it_is(mode):
    pixels = np.random.default_rng(1).integers(0, 256, (16, 12, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).convert(mode)
    assert np.array_equal(enlarged(picture, DRAW, 1.0, (0.3, 0.7)), picture)


SAME = {"gamma": 1.0, "contrast": 1.0, "brightness": 0.0, "saturation": 1.0}


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_tone_of_nothing_leaves_every_value(mode):
    pixels = np.random.default_rng(2).integers(0, 256, (16, 12, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).convert(mode)
    assert np.array_equal(toned(picture, DRAW, **SAME), picture)


def test_each_part_of_a_tone_does_what_it_is_called():
    pixels = np.random.default_rng(3).integers(60, 190, (16, 16, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)

    def after(**change):
        return np.asarray(toned(picture, DRAW, **(SAME | change)), float)

    assert after(gamma=1.3).mean() < pixels.mean() < after(gamma=0.8).mean()
    assert after(contrast=0.5).std() == pytest.approx(pixels.std() / 2, rel=0.02)
    assert after(contrast=0.5).mean() == pytest.approx(pixels.mean(), abs=0.5)
    assert after(brightness=0.1).mean() == pytest.approx(pixels.mean() + 25.5, abs=0.5)
    grey = after(saturation=0.0)
    assert np.ptp(grey, axis=2).max() == 0
