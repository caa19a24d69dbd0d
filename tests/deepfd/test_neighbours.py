import json

import numpy as np
import pytest

import deepfd
from deepfd.neighbours import Neighbours
from pipeline import folds, manifest
from pipeline.errors import UserError


@pytest.fixture
def model(small_profile, make_model, tmp_path, monkeypatch):
    """A model with the record of a fit on three generators and photographs, and their manifests."""
    checked, folder = small_profile(count=20)
    monkeypatch.chdir(tmp_path)
    train = folds.load(checked).fold("none").train
    counts = {name: {"train": int((train.generators == name).sum())}
              for name in np.unique(train.generators).tolist()}  # fmt: skip
    made = make_model("models/deepfd/none/0", threshold=0.5)
    facts = {"fit": {"digest": folds.ids_digest(train.ids), "n": len(train), "counts": counts}}
    (made / "reads.json").write_text(json.dumps(facts))
    return deepfd.load("models/deepfd/none/0"), train, folder


def test_a_training_fake_is_its_own_nearest_and_the_others_follow_by_distance(model):
    predictor, train, _ = model
    index = Neighbours(predictor)
    at = int(np.flatnonzero(train.generators == "b")[3])
    found = index.nearest(train.pixels[at], count=5)
    assert (found[0].generator, found[0].image_id) == ("b", train.ids[at])
    assert found[0].distance == pytest.approx(0, abs=1e-4)
    np.testing.assert_array_equal(found[0].pixels, train.pixels[at])
    # Against a search through all of them.
    fakes = train.subset(train.labels == 1)
    all_ = predictor.detector.features(fakes.pixels)
    mine = predictor.detector.features(train.pixels[at][None])
    expected = np.sort(np.linalg.norm(all_ - mine, axis=1))[:5]
    assert [one.distance for one in found] == pytest.approx(expected.tolist(), abs=1e-5)


def test_photographs_and_other_splits_are_never_among_them(model):
    predictor, train, _ = model
    found = Neighbours(predictor).nearest(train.pixels[train.labels == 0][0], count=1000)
    assert {one.image_id for one in found} == set(train.ids[train.labels == 1].tolist())


def test_images_added_since_the_fit_are_none_it_was_trained_on(model):
    predictor, train, folder = model
    rows = manifest.read_part(manifest.part_path(folder / "a", 0)).to_pylist()
    later = [row | {"image_id": f"{row['image_id']}-later"} for row in rows]
    manifest.write_part(manifest.part_path(folder / "a", 1), later)
    found = Neighbours(predictor).nearest(train.pixels[0], count=1000)
    assert not [one for one in found if "later" in one.image_id]
    assert len(found) == (train.labels == 1).sum()


def test_where_its_training_pictures_do_not_lie_it_says_so(model, tmp_path, monkeypatch):
    predictor, _, folder = model
    rows = manifest.read_part(manifest.part_path(folder / "a", 0)).to_pylist()
    other = [row | {"image_id": f"x{row['image_id']}"} for row in rows]
    manifest.write_part(manifest.part_path(folder / "a", 0), other)
    with pytest.raises(UserError, match="not those that models/deepfd/none/0 was trained on"):
        Neighbours(predictor)
    with pytest.raises(UserError, match="do not lie in this folder"):
        Neighbours(predictor, tmp_path / "elsewhere")


def test_a_model_without_a_record_has_no_neighbours(make_model):
    with pytest.raises(UserError, match="no record of what it was trained on"):
        Neighbours(deepfd.load(make_model("bare")))
