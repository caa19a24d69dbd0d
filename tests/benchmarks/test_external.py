import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks import external
from benchmarks.readings import RESULTS_SCHEMA
from deepfd import detect
from pipeline import folds, params
from pipeline.errors import UserError

# The planted fakes carry a checkerboard: the difference of neighbours gives them away.
KNOWS = """
import numpy as np
from PIL import Image

def predict(path):
    pixels = np.asarray(Image.open(path).convert("L"), dtype=float)
    return 1 / (1 + np.exp(20 - np.abs(np.diff(pixels, axis=0)).mean()))
"""
GUESSES = """
import hashlib

def predict(path):
    return hashlib.sha256(open(path, "rb").read()).digest()[0] / 255
"""


@pytest.fixture
def profile(small_profile, tmp_path, monkeypatch):
    checked, folder = small_profile(count=80)
    monkeypatch.chdir(tmp_path)
    folds.INDEX.write_text(json.dumps(folds.index(checked, folder)))
    return checked


def written(tmp_path, text, name="my"):
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    return path


def test_a_detector_that_knows_and_one_that_guesses(profile, tmp_path):
    said = external.run(profile, written(tmp_path, KNOWS))
    external.run(profile, written(tmp_path, GUESSES, "guess"))
    table = pd.read_parquet(external.OUT)
    assert list(table.columns) == RESULTS_SCHEMA.names
    assert "not trained here" in said
    mine, guess = (
        table[table["method"] == name].set_index("generator") for name in ("my", "guess")
    )
    fakes = ["a", "b", "c"]
    assert (mine.loc[fakes, "recall"] > 0.9).all() and (mine.loc[fakes, "auc"] > 0.99).all()
    assert guess.loc[fakes, "auc"].between(0.2, 0.8).all()
    assert mine.loc["real:orl", "fpr"] <= 0.2 and mine.loc["real:orl", "n_real"] == 20
    assert set(table["held_out"]) == {"external"} and table["seen"].isna().all()
    assert (table["seed"] == -1).all()


def test_a_second_run_replaces_the_first(profile, tmp_path):
    path = written(tmp_path, GUESSES)
    external.run(profile, path)
    first = pd.read_parquet(external.OUT)
    external.run(profile, path)
    pd.testing.assert_frame_equal(pd.read_parquet(external.OUT), first)


def test_neither_names_nor_order_of_the_files_say_what_they_are():
    seen = []

    def predict(path):
        seen.append((path.rsplit("/", 1)[-1], int(np.asarray(Image.open(path))[0, 0])))
        return 0.5

    pixels = np.arange(50, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
    external.score(predict, pixels, seed=3)
    names, places = zip(*seen, strict=True)
    assert names == tuple(f"{i:06}.png" for i in range(50))
    assert sorted(places) == list(range(50)) != list(places)


def test_scores_come_back_in_the_order_of_the_images():
    pixels = np.arange(9, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
    values = external.score(lambda p: np.asarray(Image.open(p))[0, 0] / 10, pixels, seed=0)
    np.testing.assert_allclose(values, np.arange(9) / 10)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("x = 1", "defines no predict"),
        ("1 / 0", "cannot be imported .ZeroDivisionError"),
        ("def predict(", "cannot be imported .SyntaxError"),
        ("predict = 3", "defines no predict"),
    ],
)
def test_a_file_without_predict_is_refused(tmp_path, text, match):
    with pytest.raises(UserError, match=match):
        external.load(written(tmp_path, text))


@pytest.mark.parametrize(
    ("predict", "match"),
    [
        (lambda path: 1.5, r"said 1.5; expected P\(fake\)"),
        (lambda path: float("nan"), "said nan"),
        (lambda path: None, "TypeError"),
        (lambda path: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_an_answer_that_is_no_probability_stops_it(predict, match):
    with pytest.raises(UserError, match=match):
        external.score(predict, np.zeros((1, 4, 4, 1), np.uint8), seed=0)


def test_the_name_of_a_method_is_taken(profile, tmp_path):
    with pytest.raises(UserError, match="--name"):
        external.run(profile, written(tmp_path, GUESSES, "spectrum"))


def test_a_table_of_another_kind_is_not_written_over(profile, tmp_path):
    out = tmp_path / "out.parquet"
    pd.DataFrame({"x": [1]}).to_parquet(out)
    with pytest.raises(UserError, match="delete it"):
        external.run(profile, written(tmp_path, GUESSES), out=out)


def test_the_command(profile, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(params, "load", lambda: profile)
    path = written(tmp_path, KNOWS)
    with pytest.raises(SystemExit) as stopped:
        detect.main(["benchmark", "--model", str(path), "--name", "theirs"])
    assert stopped.value.code == 0
    assert "theirs, not trained here" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        detect.main(["benchmark", "--model", str(tmp_path / "none.py")])
    assert stopped.value.code == 2
    assert "not found" in capsys.readouterr().err
