"""On generated faces only: those of the committed PGGAN of the profile celeba."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import generators
from deepfd import faces, pictures
from deepfd.pictures import Opened
from generators.adapters.options import GanGenerator
from pipeline import images

pytest.importorskip("dlib", reason="the extra `face` is not installed")
ROOT = Path(__file__).parents[2]
BACKGROUND = (640, 480)


@pytest.fixture(scope="module")
def portraits():
    weights = ROOT / "generators/weights/celeba/pggan.safetensors"
    options = GanGenerator(adapter="pggan", family="progressive", weights=str(weights), images=8)
    return images.from_unit(generators.load(options).sample(list(range(8))).numpy())


def backdrop(seed=0):
    """A picture without a face: a smooth gradient with stripes."""
    x, y = np.meshgrid(np.linspace(0, 1, BACKGROUND[0]), np.linspace(0, 1, BACKGROUND[1]))
    values = 90 + 60 * x + 30 * np.sin(40 * y + seed)
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


def placed(portrait, at, side=256, onto=None):
    picture = onto or backdrop()
    picture.paste(images.to_pil(portrait).resize((side, side), Image.Resampling.LANCZOS), at)
    return picture


@pytest.fixture(scope="module")
def framing(portraits):
    return faces.framing_of(portraits)


def test_the_framing_is_that_of_the_training_pictures(framing):
    left, upper, right, lower = framing
    # Aligned faces: in the middle, the chin near the lower border.
    assert (left + right) / 2 == pytest.approx(0.5, abs=0.05)
    assert 0.3 < upper < 0.5 < 0.8 < lower < 1.0


def test_a_face_in_a_larger_picture_is_cut_out_as_the_training_faces_were(portraits, framing):
    found = 0
    for i, portrait in enumerate(portraits):
        at = (60 + 30 * i, 20 * i)
        opened = Opened(placed(portrait, at))
        chosen = pictures.views(opened, 64, "center", framing)
        wanted = (*at, at[0] + 256, at[1] + 256)
        if [one.how for one in chosen] == ["face"]:
            found += faces.overlap(chosen[0].box, wanted) > 0.6
    assert found >= 6


def test_each_of_two_faces_is_judged_the_largest_first(portraits, framing):
    picture = placed(portraits[0], (10, 100))
    picture = placed(portraits[1], (400, 50), side=200, onto=picture)
    opened = Opened(picture)
    boxes = [one.box for one in pictures.views(opened, 64, "center", framing)]
    assert len(boxes) == 2
    assert boxes[0][0] < 300 < boxes[1][0]


def test_where_there_is_no_face_the_centre_is_judged_and_said(framing):
    opened = Opened(backdrop())
    (view,) = pictures.views(opened, 64, "center", framing)
    assert view == pictures.View((80, 0, 560, 480), "crop")
    assert any("no face found" in note for note in opened.notes)


def test_a_portrait_that_is_framed_like_the_training_sceneskeeps_their_crop(portraits, framing):
    picture = images.to_pil(portraits[0]).resize((256, 256), Image.Resampling.LANCZOS)
    (view,) = pictures.views(Opened(picture), 64, "center", framing)
    assert view == pictures.View((0, 0, 256, 256), "crop")


def test_pictures_without_a_face_have_no_framing():
    assert faces.framing_of(np.zeros((3, 64, 64, 1), np.uint8)) is None


@pytest.mark.parametrize(
    ("face", "expected"),
    [
        ((40, 40, 60, 60), (30, 30, 70, 70)),  # in the middle
        ((0, 0, 20, 20), (0, 0, 40, 40)),  # moved inside
        ((10, 10, 90, 90), (0, 0, 100, 100)),  # as large as fits
        ((-10, 30, 90, 130), (0, 0, 100, 100)),
    ],
)
def test_the_square_round_a_face_stays_within_the_picture(face, expected):
    assert faces.square(face, (0.25, 0.25, 0.75, 0.75), 100, 100) == expected


def test_overlap_is_that_of_areas():
    assert faces.overlap((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert faces.overlap((0, 0, 10, 10), (10, 0, 15, 10)) == 0


def test_a_face_that_fills_the_picture_is_found_on_the_coarse_copy_alone(portraits, monkeypatch):
    looked, at = [], faces._found_at
    monkeypatch.setattr(faces, "_found_at", lambda grey, side, enlarge: (
        looked.append(side), at(grey, side, enlarge))[1])  # fmt: skip
    filled = [images.to_pil(one).resize((600, 600), images.FILTER) for one in portraits]
    coarse = [faces.find(one) for one in filled]
    assert looked.count(faces.LARGEST_SIDE) <= 2 and looked.count(faces.COARSE_SIDE) == 8
    # Where it looked: the same face, as a search on the large copy finds it.
    monkeypatch.setattr(faces, "FILLS", 2)
    fine = [faces.find(one) for one in filled]
    pairs = [(a[0], b[0]) for a, b in zip(coarse, fine, strict=True) if a and b]
    assert len(pairs) >= 6
    assert np.median([faces.overlap(*pair) for pair in pairs]) > 0.75


def test_a_small_face_in_a_scene_is_looked_for_on_the_large_copy(portraits):
    scene = placed(portraits[0], (300, 200), side=160)
    (box,) = faces.find(scene)
    assert 300 < (box[0] + box[2]) / 2 < 460 and 200 < (box[1] + box[3]) / 2 < 360


def test_many_threads_find_what_one_finds(portraits):
    # dlib lets go of Python's lock; a finder shared by threads crashes the process.
    scenes = [placed(portraits[i], (0, 0), 160).crop((0, 0, 200, 200)) for i in range(8)]
    alone = [faces.find(one) for one in scenes]
    assert sum(map(len, alone)) >= 6
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(faces.find, scenes * 2)) == alone * 2
