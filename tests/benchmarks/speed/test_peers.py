"""What is compared with reads the same pictures."""

import numpy as np
import pytest
import torch

from benchmarks.speed import peers, reading
from benchmarks.speed.turns import OURS
from pipeline import folds, images
from pipeline.errors import UserError


def contents(batches):
    """Pictures as a sorted list of bytes, with their labels."""
    return sorted(
        (one.numpy().tobytes(), int(label))
        for x, labels in batches
        for one, label in zip(x, labels, strict=True)
    )


@pytest.fixture(params=[1, 3])
def written(request, small_profile):
    return small_profile(count=12, channels=request.param)


def test_every_way_reads_every_picture_once_a_pass_and_as_the_same_numbers(written, tmp_path):
    params, folder = written
    pictures, mode = folds.load(params, folder).images, peers.MODES[params.faces.channels]
    expected = sorted(
        (images.to_unit(pixels[None])[0].tobytes(), int(label))
        for pixels, label in zip(pictures.pixels, pictures.labels, strict=True)
    )
    assert contents(reading.ours(params, folder, 1)) == expected
    peers.write_folder(tmp_path / "folder", pictures)
    files = peers.loader(peers.ImageFolder(tmp_path / "folder", mode), 8, 0)
    assert contents(files) == contents(files) == expected
    shards = peers.write_shards(tmp_path / "shards", pictures)
    assert contents(peers.webdataset(shards, mode, 8)()) == expected
    parts = sorted(folder.rglob("*.parquet"))
    assert contents(peers.hugging_face(parts, tmp_path / "cache", 8)()) == expected


def test_pairs_are_crops_half_of_them_of_one_class(written, tmp_path):
    params, folder = written
    peers.write_folder(tmp_path, folds.load(params, folder).images)
    pairs = peers.Pairs(tmp_path, peers.MODES[params.faces.channels], 16, 40)
    found = [pairs[i] for i in range(len(pairs))]
    assert len(found) == 40
    assert {one.shape for one, *_ in found} == {(params.faces.channels, 16, 16)}
    assert sum(first == second for *_, first, second in found) == 20
    assert sorted({(first, second) for *_, first, second in found}) == [
        (0, 0), (0, 1), (1, 0), (1, 1),
    ]  # fmt: skip
    # A fake carries a checkerboard, which a photograph lacks.
    board = torch.from_numpy(np.indices((16, 16)).sum(0) % 2 * 2.0 - 1)
    strength = {0: [], 1: []}
    for one, _, label, _ in found:
        strength[label].append(float((one[0] * board).mean().abs()))
    assert min(strength[1]) > np.mean(strength[0])


def test_a_way_that_reads_fewer_pictures_is_refused():
    with pytest.raises(UserError, match="3 pictures came in batches; expected 4"):
        reading.consumed(iter([(torch.zeros(3, 1, 2, 2), None)]), 4)


def test_ours_is_among_the_ways_of_every_race(written, tmp_path):
    params, folder = written
    for race in reading.races(params, folder, tmp_path):
        assert OURS in race.ways and len(race.ways) == 5
