"""What every registered method must keep, whatever it is made of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from pydantic import TypeAdapter

from benchmarks.methods import METHODS, load_method
from pipeline import folds, params
from pipeline.errors import UserError
from pipeline.images import Jpeg
from pipeline.options import one_of

pytestmark = pytest.mark.numbers

ROOT = Path(__file__).parents[3]
# For methods trained in steps: as few as show that everything runs.
STEPS = {
    "width": 8,
    "widths": (4, 8),
    "crop": 16,
    "steps": 2,
    "contrastive_steps": 2,
    "classifier_steps": 2,
    "batch": 8,
    "lr": 0.001,
    "dimensions": 4,
}

COLOUR_ONLY = {"colour", "colour_rgb"}

every_method = pytest.mark.parametrize("name", list(METHODS))


def tiny_options(name):
    kinds = {
        get_args(kind.model_fields["method"].annotation)[0]: kind
        for kind in get_args(get_args(params.Method)[0])
    }
    fixed = {k for k, f in kinds[name].model_fields.items() if f.default == 0}
    values = {k: v for k, v in STEPS.items() if k in kinds[name].model_fields and k not in fixed}
    return TypeAdapter(params.Method).validate_python({"method": name, **values})


@pytest.fixture
def fold(small_profile, name):
    profile, folder = small_profile(channels=3 if name in COLOUR_ONLY else 1)
    return folds.load(profile, folder).fold("c")


@every_method
def test_scores_are_probabilities_and_a_function_of_image_and_seed(name, fold, tmp_path):
    method, options = load_method(name), tiny_options(name)
    model = method.fit(fold.train, fold.valid, options, seed=1)
    scores = model.score(fold.test.pixels)
    assert scores.shape == (len(fold.test),) and scores.dtype == np.float64
    assert ((scores >= 0) & (scores <= 1)).all()
    # What a fit knows of its valid images already is what it says of them now.
    if model.valid_scores is not None:
        assert np.array_equal(model.valid_scores, model.score(fold.valid.pixels))
    # Fitted again: the same bits.
    again = method.fit(fold.train, fold.valid, options, seed=1)
    assert np.array_equal(again.score(fold.test.pixels), scores)
    # Saved and loaded: the same bits, and nothing pickled.
    model.save(tmp_path / "model")
    assert np.array_equal(method.load(tmp_path / "model").score(fold.test.pixels), scores)
    files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
    assert files and {path.suffix for path in files} <= {".safetensors", ".json"}


@every_method
def test_the_score_of_an_image_does_not_depend_on_its_neighbours(name, fold):
    model = load_method(name).fit(fold.train, fold.valid, tiny_options(name), seed=0)
    pixels = fold.test.pixels[:6]
    # Another batch size may round differently, and no more.
    one_by_one = [model.score(one[None])[0] for one in pixels]
    assert model.score(pixels) == pytest.approx(one_by_one, abs=1e-5)
    assert model.score(pixels[::-1].copy())[::-1] == pytest.approx(model.score(pixels), abs=1e-5)


@every_method
def test_fitting_leaves_its_images_as_they_were(name, fold):
    before = fold.train.pixels.copy(), fold.valid.pixels.copy()
    load_method(name).fit(fold.train, fold.valid, tiny_options(name), seed=0)
    assert np.array_equal(fold.train.pixels, before[0])
    assert np.array_equal(fold.valid.pixels, before[1])


@pytest.mark.parametrize("name", ["deepfd", "faithful"])
def test_a_network_keeps_how_its_pictures_came(name, fold, tmp_path):
    crop, finish = (0.1, 0.2, 0.8, 0.9), Jpeg(90)
    model = load_method(name).fit(
        fold.train, fold.valid, tiny_options(name), seed=0, crop=crop, finish=finish
    )
    model.save(tmp_path)
    again = load_method(name).load(tmp_path)
    assert (tuple(again.crop), again.finish) == (tuple(model.crop), model.finish) == (crop, finish)


def test_options_that_bear_another_name_than_their_line_are_refused():
    wrong = {"spectre": METHODS["spectrum"]}
    with pytest.raises(TypeError, match=r"method \['spectrum'\]; the registry has \['spectre'\]"):
        one_of(wrong, "method")


def test_an_unknown_method_is_an_error_that_lists_the_known():
    with pytest.raises(UserError, match="'oracle' is unknown; expected one of faithful, deepfd"):
        load_method("oracle")


def test_methods_on_fixed_features_do_not_import_torch():
    code = (
        "import sys; from benchmarks.methods import load_method; "
        "[load_method(name) for name in ('spectrum', 'dct', 'srm', 'one_class')]; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
