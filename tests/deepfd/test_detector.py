import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from deepfd.detector import Detector, Network
from pipeline import images
from pipeline.errors import UserError

pytestmark = pytest.mark.numbers


@pytest.fixture(scope="module", params=[1, 3])
def detector(request):
    return Detector(
        Network(request.param, 32, body={"kind": "paper", "width": 6}, seed=0), crop="center"
    )


def picture(channels, width=32, height=32):
    draw = np.random.default_rng(0)
    return draw.integers(0, 256, (height, width, channels)).astype(np.uint8)


def test_importing_deepfd_does_not_import_torch():
    code = "import sys, deepfd; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_kind_of_input_gives_the_score_of_its_pixels(detector, tmp_path):
    pixels = picture(detector.channels)
    expected = detector.score(pixels[None])
    path = tmp_path / "one.png"
    path.write_bytes(images.encode_png(pixels))
    chw = torch.from_numpy(pixels).permute(2, 0, 1)
    unit = torch.from_numpy(images.to_unit(pixels[None]))
    for given in (images.to_pil(pixels), path, str(path), pixels, pixels[None], chw, chw[None],
                  unit, unit[0], [path]):  # fmt: skip
        np.testing.assert_array_equal(detector(given), expected)
    both = detector([path, images.to_pil(pixels[::-1].copy())])
    assert both[0] == pytest.approx(expected[0], abs=1e-6)
    assert both[1] != both[0]


def test_a_picture_of_another_size_goes_the_one_way_to_pixels(detector):
    pixels = picture(3, width=90, height=70)
    by_hand = images.to_pixels(Image.fromarray(pixels), 32, detector.channels, "center")
    np.testing.assert_array_equal(detector(Image.fromarray(pixels)), detector.score(by_hand[None]))


def test_no_picture_gives_no_score(detector):
    assert detector([]).shape == (0,)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4, 2), np.uint8),
        torch.zeros(4, 4),
        torch.full((1, 4, 4), 3.0),
        "no_such_file.png",
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(detector, wrong):
    with pytest.raises(UserError, match="expected"):
        detector(wrong)


def test_pixels_of_another_profile_are_refused(detector):
    with pytest.raises(UserError, match="expects uint8"):
        detector.score(np.zeros((1, 64, 64, detector.channels), np.uint8))


def test_saved_and_loaded_again_the_scores_are_the_same_bits(detector, tmp_path):
    detector.save(tmp_path)
    again = Detector.load(tmp_path)
    pixels = np.stack([picture(detector.channels)] * 3)
    np.testing.assert_array_equal(again.score(pixels), detector.score(pixels))
    assert (again.size, again.channels, again.crop) == (32, detector.channels, "center")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_a_crop_of_fractions_survives_saving(tmp_path):
    one = Detector(
        Network(1, 32, body={"kind": "paper", "width": 6}, seed=0), crop=(0.1, 0.2, 0.9, 0.8)
    )
    one.save(tmp_path)
    photo = Image.fromarray(picture(3, width=60, height=80))
    np.testing.assert_array_equal(Detector.load(tmp_path)(photo), one(photo))


def test_pictures_are_finished_as_the_training_images_were_also_after_saving(tmp_path):
    photo = Image.fromarray(picture(3, width=60, height=80))
    body = {"kind": "paper", "width": 6}
    plain = Detector(Network(3, 32, body=body, seed=0))
    finish = images.Jpeg(60, grid=(4, 3))
    one = Detector(Network(3, 32, body=body, seed=0), finish=finish)
    expected = images.to_pixels(photo, 32, 3, "center", finish)
    np.testing.assert_array_equal(one.to_pixels(photo)[0], expected)
    assert one(photo) != plain(photo)
    one.save(tmp_path)
    loaded = Detector.load(tmp_path)
    assert loaded(photo) == one(photo) and hash(loaded.finish) == hash(finish)


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def other_width(folder):
    path = folder / "model.json"
    card = json.loads(path.read_text())
    card["network"]["body"]["width"] = 9
    path.write_text(json.dumps(card))


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        other_width,
        lambda folder: (folder / "model.json").write_text("{"),
        lambda folder: (folder / "model.json").write_text("{}"),
        lambda folder: (folder / "model.json").unlink(),
        lambda folder: (folder / "model.safetensors").unlink(),
    ],
)
def test_a_damaged_folder_is_refused(tmp_path, damage):
    Detector(Network(1, 32, body={"kind": "paper", "width": 6}, seed=0)).save(tmp_path)
    damage(tmp_path)
    with pytest.raises(UserError, match=r"fit it again|not found"):
        Detector.load(tmp_path)
