"""A folder of pictures as a generator."""

import numpy as np
import pytest

import generators
from generators.adapters.options import FolderGenerator
from pipeline import images
from pipeline.errors import UserError


def options(folder, count=5, **changes):
    values = {"adapter": "folder", "family": "f", "images": count, "weights": str(folder)}
    return FolderGenerator(**(values | changes))


@pytest.fixture
def pictures(tmp_path):
    """Write n pictures; returns their folder and pixels in the order of their names."""

    def write(count=5, size=(12, 10), channels=3):
        folder = tmp_path / "pictures"
        (folder / "b").mkdir(parents=True)
        shape = (count, size[1], size[0], channels)
        pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        for index, one in enumerate(pixels):
            name = f"a{index}.png" if index < 2 else f"b/{index}.PNG"
            images.to_pil(one).save(folder / name)
        (folder / "readme.txt").write_text("no picture")
        return folder, pixels

    return write


@pytest.mark.parametrize("channels", [1, 3])
def test_a_seed_is_a_place_in_the_sorted_list_and_pixels_are_kept(pictures, channels):
    folder, pixels = pictures(channels=channels)
    made = generators.load(options(folder))
    assert made.channels == channels
    assert np.array_equal(images.from_unit(made.sample([4, 0, 1]).numpy()), pixels[[4, 0, 1]])


def test_fewer_pictures_than_asked_are_refused(pictures):
    folder, _ = pictures()
    with pytest.raises(UserError, match=r"holds 5 pictures; expected at least 7"):
        generators.load(options(folder, count=5, first_seed=2))


def test_the_spec_follows_every_byte_and_name(pictures):
    folder, _ = pictures()
    before = generators.load(options(folder)).spec()
    (folder / "a0.png").rename(folder / "c.png")
    after = generators.load(options(folder)).spec()
    assert before != after


def test_a_broken_picture_is_named(pictures):
    folder, _ = pictures()
    data = (folder / "a1.png").read_bytes()
    (folder / "a1.png").write_bytes(data[: len(data) // 2])
    made = generators.load(options(folder))
    with pytest.raises(UserError, match=r"a1\.png: not a readable picture"):
        made.sample([0, 1])


def test_pictures_of_other_sizes_or_grey_among_colour_are_named(pictures):
    folder, pixels = pictures()
    images.to_pil(pixels[0]).resize((9, 9)).save(folder / "a1.png")
    made = generators.load(options(folder))
    with pytest.raises(UserError, match=r"a1\.png is 9x9, others of its generator are 12x10"):
        made.sample([0, 1])
    images.to_pil(pixels[0]).convert("L").save(folder / "a1.png")
    with pytest.raises(UserError, match=r"a1\.png is grey"):
        made.sample([0, 1])
