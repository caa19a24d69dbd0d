"""A fold never lets a fit see the held-out generator or the test split."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline import folds, manifest
from pipeline.errors import UserError

ROOT = Path(__file__).parents[2]
ELSEWHERE = {
    "orl": {"source": "orl"},
    "elsewhere": {"source": "folder", "path": "-", "use": "test"},
}
TWO = {name: {"source": "folder", "path": "-"} for name in ("one", "two")}
FAKES = {"adapter": "folder", "weights": "-", "images": 40}
WITH_WILD = {
    "a": FAKES | {"family": "y"},
    "b": FAKES | {"family": "z"},
    "wild": FAKES | {"family": "y", "use": "test"},
}
HELD_OUTS = ["a", "b", "c", "none", "family:x", "family:y"]


@pytest.mark.parametrize("held_out", HELD_OUTS)
def test_train_and_valid_hold_no_held_out_and_no_test_image(small_profile, held_out):
    params, folder = small_profile()
    fold = folds.load(params, folder).fold(held_out)
    frames = {name: manifest.read(folder / name) for name in ("real_orl", "a", "b", "c")}
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
        assert (part.labels == (part.generators != "real:orl")).all()
    tested = {i for f in frames.values() for i in f.loc[f["split"] == "test", "image_id"]}
    assert set(fold.test.ids) == tested
    assert not tested & (set(fold.train.ids) | set(fold.valid.ids))


def test_pixels_belong_to_their_ids(small_profile):
    params, folder = small_profile(channels=3)
    fold = folds.load(params, folder).fold("b")
    frame = manifest.read(folder / "a").set_index("image_id")
    for i in np.flatnonzero(fold.train.generators == "a")[:3]:
        expected = manifest.pixels(frame.loc[[fold.train.ids[i]]])[0]
        assert np.array_equal(fold.train.pixels[i], expected)
    assert fold.train.pixels.shape[1:] == (32, 32, 3)


@pytest.fixture
def two_cores(monkeypatch):
    """Every part is decoded by one of two processes."""
    monkeypatch.setattr(folds, "FEW", 1)
    monkeypatch.setattr(folds.cores, "available", lambda: 2)


def test_processes_decode_the_same_pictures_to_the_same_places(small_profile, two_cores):
    params, folder = small_profile(channels=3)
    here = []
    decode = manifest.decode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "decode", lambda *args: here.append(args) or decode(*args))
        together = folds.load(params, folder).images
    assert not here  # not in this process
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folds, "FEW", 10_000)
        alone = folds.load(params, folder).images
    assert np.array_equal(together.pixels, alone.pixels) and together.pixels.std() > 0
    assert np.array_equal(together.ids, alone.ids)


def test_what_a_process_refuses_is_one_line(small_profile, two_cores):
    params, folder = small_profile()
    with pytest.raises(UserError, match=r"is \(32, 32, 1\).*expected \(32, 32, 3\)"):
        folds.load(
            params.model_copy(update={"faces": params.faces.model_copy(update={"channels": 3})}),
            folder,
        )
    path = folder / "a" / "part-00000.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 255  # among the pictures: the other columns are read before
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"part-00000.parquet is damaged"):
        folds.load(params, folder)


def test_a_union_has_every_image_once(small_profile):
    params, folder = small_profile()
    corpus = folds.load(params, folder)
    parts = [corpus.fold(held_out).train for held_out in ("a", "b", "a")]
    found = folds.union(parts)
    assert set(found.ids) == set(parts[0].ids) | set(parts[1].ids)
    assert len(set(found.ids)) == len(found) > len(parts[0])
    at = dict(zip(corpus.images.ids, corpus.images.pixels, strict=True))
    assert all(np.array_equal(at[i], p) for i, p in zip(found.ids, found.pixels, strict=True))


def test_what_is_for_testing_only_is_tested_and_never_learned(small_profile):
    params, folder = small_profile(photographs=ELSEWHERE, generators=WITH_WILD)
    assert params.folds() == ("a", "b", "none")  # of either family one is for training
    for held_out in params.folds():
        fold = folds.load(params, folder).fold(held_out)
        for name, label in (("real:elsewhere", 0), ("wild", 1)):
            mine = fold.test.generators == name
            assert mine.sum() == 40 and (fold.test.labels[mine] == label).all()
            assert name not in {*fold.train.generators, *fold.valid.generators}


@pytest.mark.parametrize("name", ["real:elsewhere", "wild"])
def test_images_of_another_split_are_refused_where_a_source_is_for_testing_only(
    small_profile, name
):
    params, folder = small_profile(photographs=ELSEWHERE, generators=WITH_WILD)
    place = folder / folds.sources(params)[name]
    rows = manifest.read_part(manifest.part_path(place, 0)).to_pylist()
    rows[7]["split"] = "train"
    manifest.write_part(manifest.part_path(place, 0), rows)
    with pytest.raises(UserError, match=f"1 images of {name} .*`use: test`; run dvc repro"):
        folds.load(params, folder)


def test_a_collection_held_out_is_neither_learned_nor_selected_on(small_profile):
    params, folder = small_profile(photographs=TWO, fit={"seeds": [0], "together": True})
    corpus = folds.load(params, folder)
    every = {"real:one", "real:two", "a", "b", "c"}
    out = {
        "none": set(), "a": {"a"}, "family:y": {"a", "b"}, "real:two": {"real:two"},
        "b+real:one": {"b", "real:one"},
    }  # fmt: skip
    assert set(out) < set(params.folds()) and len(params.folds()) == 3 + 1 + 1 + 2 + 6
    for held_out, names in out.items():
        fold = corpus.fold(held_out)
        assert set(fold.train.generators) == set(fold.valid.generators) == every - names
        assert set(fold.test.generators) == every
        assert len(fold.test) == 5 * 10


@pytest.mark.parametrize("held_out", ["real:orl", "a+real:orl"])
def test_the_only_collection_cannot_be_held_out(small_profile, held_out):
    params, folder = small_profile(photographs=ELSEWHERE)
    with pytest.raises(UserError, match="leaves no collection of photographs to train on"):
        folds.load(params, folder).fold(held_out)


def test_files_are_named_by_what_is_held_out_and_no_two_alike(small_profile):
    params, _ = small_profile(photographs=TWO, fit={"seeds": [0], "together": True})
    names = [folds.file_name(held_out) for held_out in params.folds()]
    assert len(set(names)) == len(names) and not set("".join(names)) & set(":+")
    assert folds.file_name("a+real:one") == "a-real-one"


def test_persons_are_known_where_the_manifest_names_them(small_profile):
    params, folder = small_profile()
    test = folds.load(params, folder).fold("a").test
    assert (test.identities[test.labels == 1] == "").all()
    assert list(test.identities[test.labels == 0][:2]) == ["3", "7"]
    assert list(test.subset(test.labels == 0).identities[:2]) == ["3", "7"]


def test_folders_that_params_do_not_name_are_not_read(small_profile):
    params, folder = small_profile()
    before = folds.index(params, folder)
    shutil.copytree(folder / "a", folder / "forgotten")
    assert folds.index(params, folder) == before
    assert "forgotten" not in folds.load(params, folder).fold("none").test.generators


def test_reads_are_described_by_what_the_manifests_say(small_profile):
    params, folder = small_profile()
    fold = folds.load(params, folder).fold("c")
    reads = fold.describe_reads(fold.train.ids)
    assert reads["counts"] == {name: {"train": 20} for name in ("a", "b", "real:orl")}
    text = "\n".join(sorted(fold.train.ids))
    assert reads["digest"] == hashlib.sha256(text.encode()).hexdigest()
    assert fold.describe_reads(fold.train.ids[::-1]) == reads
    # A leak would show.
    leaked = fold.describe_reads(np.append(fold.train.ids, fold.test.ids[-1]))
    assert leaked["counts"]["c"] == {"test": 1} and leaked["digest"] != reads["digest"]


def test_an_id_that_is_none_of_the_fold_is_one_line(small_profile):
    params, folder = small_profile()
    fold = folds.load(params, folder).fold("c")
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
        folds.load(params, folder).fold("c")


def test_images_of_another_size_are_an_error(small_profile):
    params, folder = small_profile()
    faces = params.faces.model_copy(update={"size": 64})
    with pytest.raises(UserError, match="not 64x64"):
        folds.load(params.model_copy(update={"faces": faces}), folder)


def test_images_of_other_channels_are_an_error(small_profile):
    params, folder = small_profile()
    faces = params.faces.model_copy(update={"channels": 3})
    with pytest.raises(UserError, match=r"is \(32, 32, 1\), .*; expected \(32, 32, 3\)"):
        folds.load(params.model_copy(update={"faces": faces}), folder)


def test_images_come_in_the_order_of_their_ids_however_they_lie(small_profile):
    params, folder = small_profile()
    before = folds.load(params, folder).images
    rows = pq.read_table(folder / "a").to_pylist()
    order = np.random.default_rng(0).permutation(len(rows))
    for number, some in enumerate(np.array_split(order, 3)):
        manifest.write_part(manifest.part_path(folder / "a", number), [rows[i] for i in some])
    after = folds.load(params, folder).images
    assert np.array_equal(before.ids, after.ids)
    assert np.array_equal(before.pixels, after.pixels)


LOAD = """
import resource, sys
from pathlib import Path
from pipeline import folds, params
corpus = folds.load(params.load(sys.argv[1]), Path(sys.argv[2]))
corpus.images.pixels.max()  # what others have written is counted where it is read
print(len(corpus.images), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.long
def test_a_hundred_thousand_pictures_are_loaded_in_less_than_three_gigabytes(
    small_profile, tmp_path
):
    """1.2 GB of pixels; as a list of pictures, and joined, they were twice as many and more."""
    each, part = 25_000, 1000
    params, folder = small_profile(count=40, size=64, channels=3)
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values |= params.model_dump(mode="json", include={"generators", "faces", "methods"})
    values["matrix"]["compare"] = []
    for source in folds.sources(params).values():
        rows = pq.read_table(folder / source).to_pylist()
        for number in range(each // part):
            some = [
                rows[i % len(rows)] | {"image_id": f"{source}-{number * part + i:08d}"}
                for i in range(part)
            ]
            manifest.write_part(manifest.part_path(folder / source, number), some)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    command = [sys.executable, "-c", LOAD, str(tmp_path / "params.yaml"), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    images, peak = map(int, done.stdout.split())
    print(f"{images} pictures of 64x64x3: {peak / 1e9:.2f} GB at most")
    assert images == 4 * each
    assert peak < 3e9


def test_a_split_without_fakes_is_an_error(small_profile):
    params, folder = small_profile(count=3)
    with pytest.raises(UserError, match="split test of held-out a holds 0 photographs and 0 fakes"):
        folds.load(params, folder).fold("a")


def test_unknown_held_out_is_an_error_that_lists_the_known(small_profile):
    params, folder = small_profile()
    with pytest.raises(UserError, match="'d' is unknown; expected one of none, a, b, c, family:y"):
        folds.load(params, folder).fold("d")
