import numpy as np
import pytest
from PIL import Image

from pipeline.changes import moved, toned, zoomed

DRAW = np.random.default_rng(0)


def test_a_part_comes_to_the_size_of_the_whole_from_where_it_lies():
    quarters = np.zeros((8, 8), np.uint8)
    quarters[:4, 4:], quarters[4:, :4], quarters[4:, 4:] = 80, 160, 240
    picture, nearest = Image.fromarray(quarters), Image.Resampling.NEAREST
    for at, value in (((0, 0), 0), ((1, 0), 80), ((0, 1), 160), ((1, 1), 240)):
        found = np.asarray(zoomed(picture, DRAW, 0.5, at, nearest))
        assert found.shape == (8, 8) and (found == value).all()


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_whole_as_a_part_stays_what_it_is(mode):
    pixels = np.random.default_rng(1).integers(0, 256, (16, 12, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).convert(mode)
    assert np.array_equal(zoomed(picture, DRAW, 1.0, (0.3, 0.7)), picture)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_what_is_neither_moved_nor_toned_stays_what_it_is(mode):
    pixels = np.random.default_rng(1).integers(0, 256, (16, 12, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).convert(mode)
    assert np.array_equal(moved(picture, DRAW, 0.0, 1.0), picture)
    assert np.array_equal(toned(picture, DRAW, 1.0, 1.0, 1.0), picture)


def spot(size=(48, 32), at=(30, 10)):
    """A dark picture with a bright spot."""
    pixels = np.zeros(size[::-1], np.uint8)
    pixels[at[1] - 1 : at[1] + 2, at[0] - 1 : at[0] + 2] = 255
    return Image.fromarray(pixels)


def brightest(picture):
    y, x = np.unravel_index(np.argmax(np.asarray(picture)), picture.size[::-1])
    return int(x), int(y)


@pytest.mark.parametrize(
    "how, where",
    [
        ({"angle": 0.0, "scale": 1.0, "by": (4.0, 3.0)}, (34, 13)),
        ({"angle": np.pi, "scale": 1.0}, (17, 21)),  # the middle is (23.5, 15.5)
        ({"angle": 0.0, "scale": 2.0}, (36, 4)),
        ({"angle": 0.0, "scale": 1.0, "stretch": (np.log(2), 0.0, 0.0)}, (26, 4)),
    ],
)
def test_what_is_shown_moves_as_it_is_told(how, where):
    found = brightest(moved(spot(), DRAW, **how))
    assert np.abs(np.subtract(found, where)).max() <= 1.5, found


@pytest.mark.parametrize("mode, value", [("L", 200), ("RGB", (200, 100, 50))])
def test_what_comes_in_from_outside_is_mirrored(mode, value):
    plain = Image.new(mode, (20, 20), value)
    found = moved(plain, DRAW, 0.7, 0.8, (0.3, 0.3, 0.3), (1.5, -1.5))
    assert np.array_equal(found, plain)  # no dark corner


def test_tone_is_of_light_and_of_colours():
    picture = Image.new("RGB", (4, 4), (200, 100, 50))
    dark = np.asarray(toned(picture, DRAW, gamma=2.0, gain=1.0, contrast=1.0))[0, 0]
    np.testing.assert_allclose(dark, 255 * (np.array([200, 100, 50]) / 255) ** 2, atol=0.6)
    grey = np.asarray(toned(picture, DRAW, 1.0, 1.0, 1.0, saturation=0.0))[0, 0]
    assert (grey == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)).all()
    turned = np.asarray(toned(picture, DRAW, 1.0, 1.0, 1.0, hue=2 * np.pi / 3))[0, 0].astype(int)
    assert turned.argmax() == 1  # a third of the way round, red is green
    tinted = np.asarray(toned(picture, DRAW, 1.0, 1.0, 1.0, tint=(1.0, 0.5, 1.0)))[0, 0]
    assert tinted.tolist() == [200, 50, 50]


def test_contrast_is_about_the_pictures_own_mean():
    halves = Image.fromarray(np.repeat([[100, 200]], 2, axis=0).astype(np.uint8))
    assert np.asarray(toned(halves, DRAW, 1.0, 1.0, 0.5)).tolist() == [[125, 175]] * 2
