import json

import numpy as np
import pytest
from PIL import Image

from deepfd import detect
from deepfd.detector import Detector, Network


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    Detector(Network(1, 32, body={"kind": "paper", "width": 6}, seed=0)).save(folder)
    return folder


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    return tmp_path / "photo.jpg"


def set_threshold(model, value):
    text = json.dumps({"rule": "fpr", "target": 0.05, "threshold": value})
    (model / "threshold.json").write_text(text)


@pytest.mark.parametrize(
    ("threshold", "verdict"), [(0.0, "looks fake"), (1.0, "no sign of a fake")]
)
def test_the_verdict_follows_the_models_own_threshold(model, photo, capsys, threshold, verdict):
    set_threshold(model, threshold)
    detect.main(["detect", str(photo), "--model", str(model)])
    out = capsys.readouterr().out
    assert verdict in out
    assert "5.0%" in out
    assert "not proof" in out


def test_without_a_threshold_even_odds_are_named(model, photo, capsys):
    detect.main(["detect", str(photo), "--model", str(model)])
    assert "even odds" in capsys.readouterr().out


def test_json_has_the_score_of_the_library(model, photo, capsys):
    set_threshold(model, 0.25)
    detect.main(["detect", str(photo), "--model", str(model), "--json"])
    found = json.loads(capsys.readouterr().out)
    p_fake = float(Detector.load(model)(photo)[0])
    assert found == {
        "picture": str(photo), "p_fake": p_fake, "threshold": 0.25, "fake": p_fake >= 0.25
    }  # fmt: skip


def test_the_map_is_written(model, photo, tmp_path, capsys):
    detect.main(["detect", str(photo), "--model", str(model), "--map", str(tmp_path / "m.png")])
    assert Image.open(tmp_path / "m.png").size == (40, 40)
    assert "m.png" in capsys.readouterr().out


def test_a_broken_picture_is_one_line_and_the_others_are_still_scored(
    model, photo, tmp_path, capsys
):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photo.read_bytes()[:200])
    last = tmp_path / "last.png"
    Image.new("L", (40, 40)).save(last)
    pictures = [photo, broken, tmp_path / "missing.jpg", last]
    with pytest.raises(SystemExit) as stopped:
        detect.main(
            ["detect", *map(str, pictures), "--model", str(model), "--json",
             "--map", str(tmp_path / "m.png")]
        )  # fmt: skip
    captured = capsys.readouterr()
    assert stopped.value.code == 1
    rows = [json.loads(line) for line in captured.out.splitlines()]
    assert [row["picture"] for row in rows] == [str(photo), str(last)]
    assert len({row["map"] for row in rows}) == 2
    errors = captured.err.splitlines()
    assert len(errors) == 2
    assert "broken.jpg: not a readable picture" in errors[0]
    assert "missing.jpg" in errors[1]


@pytest.mark.parametrize("text", ["{", "{}", '{"rule": "fpr", "target": 0.05, "threshold": "x"}'])
def test_a_broken_threshold_stops_with_one_line(model, photo, capsys, text):
    (model / "threshold.json").write_text(text)
    with pytest.raises(SystemExit) as stopped:
        detect.main(["detect", str(photo), "--model", str(model)])
    assert stopped.value.code == 1
    assert "not a threshold" in capsys.readouterr().err


def test_a_missing_model_stops_with_one_line(photo, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        detect.main(["detect", str(photo), "--model", str(tmp_path / "none")])
    assert stopped.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error:")
    assert len(error.splitlines()) == 1


def test_wrong_usage_is_exit_code_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        detect.main(["detect"])
    assert stopped.value.code == 2
