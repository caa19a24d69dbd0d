import numpy as np
import pytest
from PIL import Image

from pipeline.changes import zoomed

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
