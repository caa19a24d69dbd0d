"""Manifests: Parquet parts that hold the pictures."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import images, manifest
from pipeline.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)


def rows(start: int = 0, stop: int = 5, generator: str = "dcgan") -> list[dict]:
    index = range(start, stop)
    return manifest.rows_of(
        PIXELS[start:stop], ids=[f"{generator}-{i}" for i in index], splits=["train"] * len(index),
        generator=generator, family="dcgan", spec="spec", seeds=list(index),
        identities=[None] * len(index),
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A manifest of two parts."""
    for part, (start, stop) in enumerate([(0, 3), (3, 5)]):
        manifest.write_part(manifest.part_path(tmp_path / "dcgan", part), rows(start, stop))
    return tmp_path / "dcgan"


def test_a_manifest_gives_back_its_pixels_in_order(folder: Path) -> None:
    frame = manifest.read(folder)
    np.testing.assert_array_equal(manifest.pixels(frame), PIXELS)
    assert list(frame.image_id) == [f"dcgan-{i}" for i in range(5)]
    assert list(frame.sha256) == [images.pixel_sha256(one) for one in PIXELS]
    assert list(frame.columns) == manifest.SCHEMA.names


def test_columns_can_be_read_without_the_pictures(folder: Path) -> None:
    frame = manifest.read(folder, ["image_id", "label"])
    assert list(frame.columns) == ["image_id", "label"]


@pytest.mark.parametrize(
    ("generator", "label"), [("real", 0), ("real:photos", 0), ("dcgan", 1), ("realistic", 1)]
)
def test_fakes_are_the_positive_class(generator: str, label: int) -> None:
    assert {row["label"] for row in rows(generator=generator)} == {label}


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = tmp_path / "one.parquet", tmp_path / "other.parquet"
    manifest.write_part(one, rows())
    manifest.write_part(other, rows())
    assert one.read_bytes() == other.read_bytes()


def test_pandas_and_hugging_face_datasets_read_it_as_it_is(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    datasets = pytest.importorskip("datasets")
    frame = pd.read_parquet(folder)
    assert frame.image[0]["bytes"].startswith(b"\x89PNG")
    assert frame.label.dtype == np.int8
    table = datasets.load_dataset(
        "parquet", data_files=str(folder / "*.parquet"), split="train", cache_dir=str(tmp_path)
    )
    assert isinstance(table.features["image"], datasets.Image)
    assert table.features["label"].dtype == "int8"
    for index, row in enumerate(table):
        np.testing.assert_array_equal(np.asarray(row["image"]), PIXELS[index])


def test_schema_and_version_stand_in_the_metadata(folder: Path) -> None:
    assert b'"version": 1' in pq.read_schema(folder / "part-00000.parquet").metadata[b"deepfd"]


def test_no_flipped_byte_changes_what_is_read(folder: Path) -> None:
    path = folder / "part-00000.parquet"
    whole, table = path.read_bytes(), manifest.read_part(path)
    for at in range(2, len(whole), 199):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        found = manifest.read_part(path)
        assert found is None or found.equals(table), at  # the statistics are not read
    path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])  # in a picture
    with pytest.raises(UserError, match=r"part-00000.parquet is damaged"):
        manifest.read(folder)
    path.write_bytes(whole[:-100])
    with pytest.raises(UserError, match=r"part-00000.parquet is damaged"):
        manifest.read(folder)


def test_a_part_of_another_schema_or_version_is_no_part(folder: Path) -> None:
    path = folder / "part-00001.parquet"
    table = manifest.read_part(path)
    assert table is not None
    for other in (
        table.drop_columns(["seed"]),
        table.replace_schema_metadata({b"deepfd": b'{"schema": "manifest", "version": 0}'}),
    ):
        manifest.write_table(path, other)
        assert manifest.read_part(path) is None
    assert manifest.read_part(folder / "part-00009.parquet") is None


def test_an_empty_folder_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run the stage"):
        manifest.read(tmp_path)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.parquet"
    manifest.write_table(path, pa.table({"a": [1]}))
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(manifest.os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        manifest.write_table(path, pa.table({"a": [2]}))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_swapped_in_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(manifest, "_exchange", lambda *_: False)
    target, fresh = tmp_path / "out" / "real", tmp_path / "out" / ".real.tmp"
    for names in (["a", "b"], ["c"]):
        fresh.mkdir(parents=True)
        for name in names:
            (fresh / name).touch()
        manifest.swap_in(fresh, target)
        assert sorted(path.name for path in target.iterdir()) == names
        assert list(target.parent.iterdir()) == [target]


@pytest.mark.skipif(sys.platform != "linux", reason="folders are exchanged in one step on Linux")
def test_at_no_moment_of_a_swap_is_the_folder_absent(tmp_path: Path) -> None:
    target, fresh = tmp_path / "real", tmp_path / ".real.tmp"
    target.mkdir()
    absent, done = [], threading.Event()

    def watch() -> None:
        while not done.is_set():
            if not target.exists():
                absent.append(True)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(300):
        fresh.mkdir()
        manifest.swap_in(fresh, target)
    done.set()
    watcher.join()
    assert not absent
