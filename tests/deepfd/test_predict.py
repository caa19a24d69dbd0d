import json

import numpy as np
import pytest
import torch
from PIL import Image

import deepfd
from deepfd import calibrate
from deepfd.predict import BATCH, Predictor, Threshold
from pipeline import images
from pipeline.errors import UserError

pytestmark = pytest.mark.numbers


@pytest.fixture
def model(make_model, calibration):
    return deepfd.load(make_model(channels=3, threshold=0.4, calibration=calibration))


def pixels_of(seed=0, side=32, channels=3):
    draw = np.random.default_rng(seed)
    return draw.integers(0, 256, (side, side, channels)).astype(np.uint8)


def test_the_prediction_is_the_calibrated_score_and_its_map(model, calibration):
    pixels = pixels_of()
    found = model.predict(images.to_pil(pixels))
    score = model.detector.score(pixels[None])
    assert found.score == score[0]
    assert found.probability == calibrate.apply(score, calibration)[0]
    assert found.threshold == calibrate.apply(np.array(0.4), calibration)
    assert found.threshold != 0.4
    assert found.map.shape == (32, 32) and found.map.dtype == np.float32
    assert (found.how, found.box) == ("whole", (0, 0, 32, 32))
    assert found.rule == "fpr <= 0.05"


def test_the_verdict_is_that_of_the_raw_score_at_its_threshold(make_model, calibration):
    pictures = [images.to_pil(pixels_of(seed)) for seed in range(8)]
    plain = deepfd.load(make_model(channels=3))
    middle = sorted(one.score for one in plain.predict(pictures, maps=False))[4]
    folder = make_model("again", channels=3, threshold=middle, calibration=calibration)
    found = deepfd.load(folder).predict(pictures, maps=False)
    assert sum(one.fake for one in found) == 4
    for one in found:
        assert one.fake == (one.score >= middle) == (one.probability >= one.threshold)


def test_every_kind_of_picture_alone_and_in_batches(model, tmp_path):
    batch = np.stack([pixels_of(seed) for seed in range(3)])
    expected = [one.score for one in model.predict(list(batch))]
    path = tmp_path / "one.png"
    path.write_bytes(images.encode_png(batch[0]))
    chw = torch.from_numpy(batch).permute(0, 3, 1, 2)
    unit = torch.from_numpy(images.to_unit(batch))
    for given in (images.to_pil(batch[0]), path, str(path), batch[0], chw[0], unit[0]):
        one = model.predict(given)
        assert one.score == pytest.approx(expected[0], abs=1e-6)
    for given in (batch, chw, unit, tuple(batch), [path, Image.fromarray(batch[1]), chw[2]]):
        found = model.predict(given)
        assert [one.score for one in found] == pytest.approx(expected, abs=1e-6)


def test_more_pictures_than_a_batch_keep_their_order(model):
    pixels = np.stack([pixels_of(seed % 7) for seed in range(BATCH + 5)])
    found = model.predict(pixels, maps=False)
    assert [one.score for one in found] == pytest.approx(model.detector.score(pixels), abs=1e-6)
    assert found[0].map is None


def test_a_picture_is_finished_as_the_training_pictures_were(make_model):
    finish = images.Jpeg(90)
    model = deepfd.load(make_model(channels=3, finish=finish))
    pixels = pixels_of()
    (expected,) = model.detector.score(images.finished(pixels, finish)[None])
    assert model.predict(pixels).score == expected
    assert model.predict(pixels).score == model.detector(pixels)[0]


def test_nothing_gives_nothing(model):
    assert model.predict([]) == []


def test_grey_by_a_colour_model_and_colour_by_a_grey_one(make_model, model):
    found = model.predict(Image.new("L", (32, 32), 90))
    assert found.notes == ()
    grey = deepfd.load(make_model("grey", channels=1))
    assert any("in grey" in note for note in grey.predict(images.to_pil(pixels_of())).notes)
    assert grey.predict(Image.new("RGB", (32, 32), (90, 90, 90))).notes == ()


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (7, "a int is no picture"),
        ([7], "a int is no picture"),
        (np.zeros((4, 4), np.float32), "expected uint8"),
        (np.zeros((4, 4, 2), np.uint8), "expected uint8"),
        (torch.full((3, 8, 8), 7.0), r"\[-1, 1\]"),
        ("missing.png", "not found"),
        ([np.zeros((2, 8, 8, 3), np.uint8)], "batch of 2"),
    ],
)
def test_what_is_no_picture_is_refused(model, wrong, match):
    with pytest.raises(UserError, match=match):
        model.predict(wrong)


def test_without_threshold_or_calibration_it_is_even_odds_of_the_raw_score(make_model):
    found = deepfd.load(make_model(channels=3)).predict(pixels_of())
    assert (found.threshold, found.probability) == (0.5, found.score)
    assert "even odds" in found.rule


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        "[]",
        '{"rule": "fpr", "target": 0.05, "threshold": "x"}',
        '{"rule": "fpr", "target": 0.05, "threshold": 0.5, "calibration": {"a": 1}}',
    ],
)
def test_a_broken_threshold_is_refused(make_model, text):
    folder = make_model()
    (folder / "threshold.json").write_text(text)
    with pytest.raises(UserError, match="not a threshold"):
        Threshold.read(folder)


def test_the_most_suspicious_face_decides(make_model, monkeypatch):
    from deepfd import faces

    framing = (0.1, 0.1, 0.9, 0.9)
    model = deepfd.load(make_model(channels=3, about={"framing": framing}))
    boxes = [(5, 5, 45, 45), (100, 20, 140, 60)]
    monkeypatch.setattr(faces, "available", lambda: True)
    monkeypatch.setattr(faces, "find", lambda picture: boxes)
    picture = Image.fromarray(np.random.default_rng(1).integers(
        0, 256, (200, 200, 3)).astype(np.uint8))  # fmt: skip
    found = model.predict(picture)
    assert found.how == "face" and len(found.faces) == 2
    scores = [face.score for face in found.faces]
    assert found.score == max(scores) > min(scores)
    assert found.box == found.faces[int(np.argmax(scores))].box
    # Not looked for: the centre.
    assert model.predict(picture, find_faces=False).box == (0, 0, 200, 200)


def test_a_predictor_can_be_made_of_a_detector_in_memory(model):
    again = Predictor(model.detector)
    assert again.predict(pixels_of()).threshold == 0.5


def test_the_threshold_file_is_what_the_fit_writes(model):
    facts = json.loads((model.folder / "threshold.json").read_text())
    assert set(facts) >= {"rule", "target", "threshold", "calibration"}


@pytest.mark.parametrize("threshold", [0.2, 0.45, 0.5, 0.55, 0.9])
def test_the_map_is_red_on_average_exactly_where_the_verdict_is_fake(make_model, threshold):
    model = deepfd.load(make_model(f"at{threshold}", channels=3, threshold=threshold))
    draw = np.random.default_rng(0)
    many = model.predict(list(draw.integers(0, 256, (6, 32, 32, 3)).astype(np.uint8)))
    logit = np.log(threshold / (1 - threshold))
    for one in many:
        assert (one.map.mean() >= 0) == one.fake
        expected = np.log(one.score / (1 - one.score)) - logit
        assert one.map.mean() == pytest.approx(expected, abs=2e-3)
