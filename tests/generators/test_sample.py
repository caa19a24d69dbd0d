"""The stage `sample@<name>`: growth, damage and kills end in the same rows as one clean run."""

import multiprocessing
import shutil
import signal
import time
from collections import Counter

import numpy as np
import pytest
import yaml

from generators import sample as stage
from pipeline import manifest
from pipeline.errors import UserError
from pipeline.images import Jpeg, to_pil, to_pixels
from pipeline.images import finished as image_finish


@pytest.fixture
def entry(gan_weights):
    """Entry of params.yaml for a small GAN: batches of 4, hence parts of 8 rows."""

    def make(**changes):
        values = {"adapter": "dcgan", "family": "dcgan", "images": 20, "batch": 4}
        return values | {"weights": str(gan_weights())} | changes

    return make


def test_rows_say_seed_id_split_label_and_spec(entry, make_params, tmp_path):
    _, run = make_params({"a": entry(images=40, first_seed=100)})
    assert stage.sample("a", run, tmp_path / "a") == (40, 40)
    frame = manifest.read(tmp_path / "a")
    assert list(frame["seed"]) == list(range(100, 140))
    assert list(frame["image_id"]) == [f"a-{seed:08d}" for seed in range(100, 140)]
    assert set(frame["label"]) == {1} and set(frame["generator"]) == {"a"}
    assert frame["spec"].nunique() == 1 and len(frame["spec"][0]) == 64
    pixels = manifest.pixels(frame)
    assert pixels.shape == (40, 64, 64, 1)
    assert len({one.tobytes() for one in pixels}) == 40
    assert pixels.std() > 10


def test_splits_are_exact_in_every_block_of_20_and_follow_no_period():
    splits = [stage.split_of(index) for index in range(600)]
    assert Counter(splits) == {"train": 420, "valid": 90, "test": 90}
    for block in range(0, 600, 20):
        assert Counter(splits[block : block + 20]) == {"train": 14, "valid": 3, "test": 3}
    for period in (2, 4, 5, 10, 20):
        for phase in range(period):
            assert set(splits[phase::period]) == {"train", "valid", "test"}


@pytest.mark.parametrize("steps", [(5, 13, 20), (16, 17, 20), (1, 20), (20, 13, 20)])
def test_growing_and_shrinking_end_in_the_parts_of_one_run(
    entry, make_params, assert_same_parts, tmp_path, steps
):
    for images in steps:
        _, run = make_params({"a": entry(images=images)})
        stage.sample("a", run, tmp_path / "a")
        assert len(manifest.read(tmp_path / "a")) == images
    stage.sample("a", run, tmp_path / "b")
    assert_same_parts(tmp_path / "a", tmp_path / "b")


def test_growth_keeps_whole_parts_and_the_rows_of_the_last(entry, make_params, tmp_path):
    _, run = make_params({"a": entry(images=13)})
    stage.sample("a", run, tmp_path / "a")
    before = (tmp_path / "a" / "part-00000.parquet").stat()
    _, run = make_params({"a": entry(images=20)})
    assert stage.sample("a", run, tmp_path / "a") == (20, 7)
    after = (tmp_path / "a" / "part-00000.parquet").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert stage.sample("a", run, tmp_path / "a") == (20, 0)


def test_shrinking_samples_nothing(entry, make_params, tmp_path):
    _, run = make_params({"a": entry(images=20)})
    stage.sample("a", run, tmp_path / "a")
    _, run = make_params({"a": entry(images=9)})
    assert stage.sample("a", run, tmp_path / "a") == (9, 0)
    assert len(list((tmp_path / "a").iterdir())) == 2


def test_damage_is_found_and_only_the_damaged_part_is_made_again(
    entry, make_params, assert_same_parts, tmp_path
):
    _, run = make_params({"a": entry()})
    folder = tmp_path / "a"
    stage.sample("a", run, folder)
    good = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.copytree(folder, tmp_path / "good")
    first, second = folder / "part-00000.parquet", folder / "part-00001.parquet"

    def flip():
        data = bytearray(good[first.name])
        data[data.find(b"\x89PNG") + 200] ^= 1  # inside the pixels of a picture
        first.write_bytes(data)

    def swap():
        first.write_bytes(good[second.name])  # whole, but of other seeds

    for damage, made in (
        (flip, 8),
        (swap, 8),
        (lambda: first.write_bytes(good[first.name][:-9]), 8),
        (lambda: first.write_bytes(b""), 8),
        (first.unlink, 8),
        (lambda: (folder / "part-00009.parquet").write_bytes(good[first.name]), 0),
        (lambda: (folder / ".part-00000.parquet.1.tmp").write_bytes(b"half"), 0),
    ):
        damage()
        assert stage.sample("a", run, folder) == (20, made)
        assert {path.name for path in folder.iterdir()} == set(good)
        assert second.read_bytes() == good[second.name]  # whole all the time: it was left alone
        assert_same_parts(folder, tmp_path / "good")


def test_another_spec_makes_every_part_again(entry, make_params, gan_weights, tmp_path):
    _, run = make_params({"a": entry()})
    stage.sample("a", run, tmp_path / "a")
    for change in (
        {"batch": 2},
        {"first_seed": 1000},
        {"weights": str(gan_weights(seed=1, file="another"))},
    ):
        _, run = make_params({"a": entry(**change)})
        assert stage.sample("a", run, tmp_path / "a") == (20, 20)


def test_a_generator_for_testing_only_has_test_images_only_and_none_is_made_again(
    entry, make_params, tmp_path
):
    _, run = make_params({"a": entry(images=40)})
    stage.sample("a", run, tmp_path / "a")
    before = manifest.read(tmp_path / "a")
    others = {"b": entry(), "c": entry()}
    _, run = make_params({"a": entry(images=40, use="test"), **others})
    assert stage.sample("a", run, tmp_path / "a") == (40, 0)
    after = manifest.read(tmp_path / "a")
    assert set(after["split"]) == {"test"} and list(after["sha256"]) == list(before["sha256"])


def test_another_finish_makes_every_image_again_and_finishes_it(entry, make_params, tmp_path):
    _, run = make_params({"a": entry()})
    stage.sample("a", run, tmp_path / "a")
    before = manifest.read(tmp_path / "a")
    faces = run.faces.model_copy(update={"finish": Jpeg(75)})
    finished = run.model_copy(update={"faces": faces})
    assert stage.sample("a", finished, tmp_path / "a") == (20, 20)
    after = manifest.read(tmp_path / "a")
    for old, new in zip(manifest.pixels(before), manifest.pixels(after), strict=True):
        assert np.array_equal(new, image_finish(old, Jpeg(75))) and (new != old).any()
    assert set(before["spec"]).isdisjoint(after["spec"])


def test_another_crop_makes_every_image_again(entry, make_params, tmp_path):
    _, run = make_params({"a": entry()})
    stage.sample("a", run, tmp_path / "a")
    whole = manifest.pixels(manifest.read(tmp_path / "a"))
    _, run = make_params({"a": entry(crop=[0, 0, 0.5, 0.5])})
    assert stage.sample("a", run, tmp_path / "a") == (20, 20)
    for old, new in zip(whole, manifest.pixels(manifest.read(tmp_path / "a")), strict=True):
        half = tuple(side // 2 for side in old.shape[:2])
        assert np.array_equal(new, to_pixels(to_pil(old[: half[0], : half[1]]), *old.shape[1:]))


def test_another_family_relabels_without_sampling(entry, make_params, assert_same_parts, tmp_path):
    _, run = make_params({"a": entry()})
    stage.sample("a", run, tmp_path / "a")
    _, run = make_params({"a": entry(family="other")})
    assert stage.sample("a", run, tmp_path / "a") == (20, 0)
    stage.sample("a", run, tmp_path / "b")
    assert_same_parts(tmp_path / "a", tmp_path / "b")


def test_a_batch_larger_than_a_part_makes_longer_parts(entry, make_params, tmp_path):
    _, run = make_params({"a": entry(batch=10)}, rows_per_part=7)
    assert stage.sample("a", run, tmp_path / "a") == (20, 20)
    assert len(list((tmp_path / "a").iterdir())) == 2


def test_a_seed_is_one_image_within_a_grey_level_whatever_the_batch(entry, make_params, tmp_path):
    pixels = []
    for batch in (1, 3, 20):
        _, run = make_params({"a": entry(batch=batch)})
        stage.sample("a", run, tmp_path / str(batch))
        pixels.append(manifest.pixels(manifest.read(tmp_path / str(batch))).astype(int))
    assert np.abs(pixels[0] - pixels[1]).max() <= 1
    assert np.abs(pixels[0] - pixels[2]).max() <= 1


def test_pictures_come_to_the_size_and_colour_of_the_profile(entry, make_params, gan_weights,
                                                             tmp_path):  # fmt: skip
    weights = str(gan_weights(channels=3, file="colour"))
    _, run = make_params({"a": entry(weights=weights)}, size=32)
    stage.sample("a", run, tmp_path / "a")
    assert manifest.pixels(manifest.read(tmp_path / "a")).shape == (20, 32, 32, 1)
    with pytest.raises(UserError, match="grey images and the profile is in colour"):
        stage.sample("a", make_params({"a": entry()}, channels=3)[1], tmp_path / "a")


def test_an_unknown_name_is_refused_with_the_known_ones(entry, make_params, tmp_path):
    with pytest.raises(UserError, match=r"'b' is unknown; params.yaml has a, other"):
        stage.sample("b", make_params({"a": entry()})[1], tmp_path / "b")


def test_the_stage_writes_where_dvc_expects_it_and_tells_its_progress(
    entry, make_params, run_stage, tmp_path
):
    values, _ = make_params({"a": entry()})
    done = run_stage(tmp_path, values, "generators.sample", "a")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "a: 20 images, 20 of them new, in data/manifests/a\n"
    assert "20/20" in done.stderr and "images/s" in done.stderr
    assert len(manifest.read(tmp_path / "data/manifests/a")) == 20


def test_weights_with_a_flipped_byte_are_refused_in_one_line_and_nothing_is_touched(
    entry, make_params, run_stage, tmp_path
):
    values, _ = make_params({"a": entry()})
    weights = tmp_path / "gan.safetensors"
    data = bytearray(weights.read_bytes())
    data[-100] ^= 1
    weights.write_bytes(data)
    done = run_stage(tmp_path, values, "generators.sample", "a")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "damaged" in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("arguments", [(), ("a", "b"), ("nobody",)])
def test_wrong_arguments_give_one_line(
    entry, make_params, tmp_path, monkeypatch, capsys, arguments
):
    values, _ = make_params({"a": entry()})
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["sample", *arguments])
    monkeypatch.setattr(stage, "deterministic", lambda: None)  # it is process-wide
    with pytest.raises(SystemExit) as stopped:
        stage.main()
    assert stopped.value.code == 1 and capsys.readouterr().err.count("\n") == 1


@pytest.fixture(scope="module")
def forkserver():
    """Start processes that have the stage imported already, so that many can be killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["generators.sample", "generators.adapters.gan", "generators.networks.dcgan"]
    )
    return context


def test_kill_9_at_any_moment_then_again_gives_the_parts_of_an_undisturbed_run(
    entry, make_params, assert_same_parts, forkserver, tmp_path
):
    _, run = make_params({"a": entry(images=400)})

    def start(folder):
        process = forkserver.Process(target=stage.sample, args=("a", run, folder))
        process.start()
        return process

    calm = start(tmp_path / "calm")
    calm.join()
    assert calm.exitcode == 0

    # Killed after the given number of parts and a little: before, between and within writes.
    rough = tmp_path / "rough"
    for parts, delay in ((0, 0.0), (1, 0.0), (6, 0.003), (15, 0.007), (40, 0.001)):
        process = start(rough)
        while process.is_alive() and len(list(rough.glob("part-*.parquet"))) < parts:
            time.sleep(0.0005)
        time.sleep(delay)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    last = start(rough)
    last.join()
    assert last.exitcode == 0
    assert_same_parts(rough, tmp_path / "calm")
    assert {path.name for path in rough.iterdir()} == {p.name for p in manifest.paths(rough)}
