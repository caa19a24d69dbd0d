"""A fold never lets a fit see the held-out generator or the test split."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest

from pipeline import folds, manifest
from pipeline.errors import UserError

HELD_OUTS = ["a", "b", "c", "none", "family:x", "family:y"]


@pytest.mark.parametrize("held_out", HELD_OUTS)
def test_train_and_valid_hold_no_held_out_and_no_test_image(small_profile, held_out):
    params, folder = small_profile()
    fold = folds.load(params, held_out, folder)
    frames = {name: manifest.read(folder / name) for name in ("real", "a", "b", "c")}
    out = {"a": "a", "b": "b", "c": "c", "none": "", "family:x": "c", "family:y": "ab"}[held_out]
    for part, split in ((fold.train, "train"), (fold.valid, "valid")):
        wanted = {
            image_id
            for name, frame in frames.items()
            if name not in set(out)
            for image_id in frame.loc[frame["split"] == split, "image_id"]
        }
        assert set(part.ids) == wanted and len(part.ids) == len(wanted)
        assert not set(part.generators) & set(out)
        assert (part.labels == (part.generators != "real")).all()
    tested = {i for f in frames.values() for i in f.loc[f["split"] == "test", "image_id"]}
    assert set(fold.test.ids) == tested
    assert not tested & (set(fold.train.ids) | set(fold.valid.ids))


def test_pixels_belong_to_their_ids(small_profile):
    params, folder = small_profile(channels=3)
    fold = folds.load(params, "b", folder)
    frame = manifest.read(folder / "a").set_index("image_id")
    for i in np.flatnonzero(fold.train.generators == "a")[:3]:
        expected = manifest.pixels(frame.loc[[fold.train.ids[i]]])[0]
        assert np.array_equal(fold.train.pixels[i], expected)
    assert fold.train.pixels.shape[1:] == (32, 32, 3)


def test_other_collections_are_tested_and_never_learned(small_profile):
    other = {"elsewhere": {"path": "-", "crop": "center"}}
    params, folder = small_profile(other_reals=other)
    fold = folds.load(params, "a", folder)
    mine = fold.test.generators == "real:elsewhere"
    assert mine.sum() == 40 and not fold.test.labels[mine].any()
    assert "real:elsewhere" not in {*fold.train.generators, *fold.valid.generators}


def test_folders_that_params_do_not_name_are_not_read(small_profile):
    params, folder = small_profile()
    before = folds.index(params, folder)
    shutil.copytree(folder / "a", folder / "forgotten")
    assert folds.index(params, folder) == before
    assert "forgotten" not in folds.load(params, "none", folder).test.generators


def test_reads_are_described_by_what_the_manifests_say(small_profile):
    params, folder = small_profile()
    fold = folds.load(params, "c", folder)
    reads = fold.describe_reads(fold.train.ids)
    assert reads["counts"] == {name: {"train": 20} for name in ("a", "b", "real")}
    text = "\n".join(sorted(fold.train.ids))
    assert reads["digest"] == hashlib.sha256(text.encode()).hexdigest()
    assert fold.describe_reads(fold.train.ids[::-1]) == reads
    # A leak would show.
    leaked = fold.describe_reads(np.append(fold.train.ids, fold.test.ids[-1]))
    assert leaked["counts"]["c"] == {"test": 1} and leaked["digest"] != reads["digest"]


def test_an_id_that_is_none_of_the_fold_is_one_line(small_profile):
    params, folder = small_profile()
    fold = folds.load(params, "c", folder)
    with pytest.raises(UserError, match=r"1 of 2 image ids .*none of the fold.*foreign-7") as error:
        fold.describe_reads(np.array([fold.train.ids[0], "foreign-7"]))
    assert "\n" not in str(error.value)


def test_index_tells_when_the_manifests_have_changed(small_profile, tmp_path):
    params, folder = small_profile()
    index = tmp_path / "folds.json"
    with pytest.raises(UserError, match="not found"):
        folds.data_digest(params, index, folder)
    index.write_text(json.dumps(folds.index(params, folder)))
    assert folds.data_digest(params, index, folder) == folds.data_digest(params, index, folder)
    shutil.copy(manifest.part_path(folder / "a", 0), manifest.part_path(folder / "b", 0))
    with pytest.raises(UserError, match="does not describe the manifests"):
        folds.data_digest(params, index, folder)


def test_ids_that_occur_twice_are_an_error(small_profile):
    params, folder = small_profile()
    shutil.copy(manifest.part_path(folder / "a", 0), manifest.part_path(folder / "b", 0))
    with pytest.raises(UserError, match="40 image ids occur twice"):
        folds.load(params, "c", folder)


def test_images_of_another_size_are_an_error(small_profile):
    params, folder = small_profile()
    faces = params.faces.model_copy(update={"size": 64})
    with pytest.raises(UserError, match="not 64x64"):
        folds.load(params.model_copy(update={"faces": faces}), "a", folder)


def test_a_split_without_fakes_is_an_error(small_profile):
    params, folder = small_profile(count=3)
    with pytest.raises(UserError, match="holds no image"):
        folds.load(params, "a", folder)


def test_unknown_held_out_is_an_error_that_lists_the_known(small_profile):
    params, folder = small_profile()
    with pytest.raises(UserError, match="'d' is unknown; expected one of none, a, b, c, family:y"):
        folds.load(params, "d", folder)
