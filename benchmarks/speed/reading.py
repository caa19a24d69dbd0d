"""From disk to training batches: float32 in [-1, 1] and labels, every picture once a pass.

Ours is what a fit does: the manifests are read and decoded into one array, and a batch is looked up
in it. The others decode a picture each time that it is asked for, so a training of several passes
says more than one pass does; both are measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed import peers
from benchmarks.speed.turns import OURS, Race, alike
from deepfd import data
from pipeline import cores, folds
from pipeline.errors import UserError
from pipeline.params import Params

BATCH = 128
TARGET = 3.0
# Times that a fit of the default profile sees each picture: 400 steps of 128 from some 3,200.
PASSES = 16

Batch = tuple[torch.Tensor, Any]
Pass = Callable[[], Iterator[Batch]]


def ours(params: Params, manifests: Path, passes: int) -> Iterator[Batch]:
    """Yield the batches of some passes, decoded once."""
    corpus = folds.load(params, manifests)
    pixels = data.to_tensor(corpus.images.pixels, torch.device("cpu"))
    labels = torch.tensor(corpus.images.labels)
    for number in range(passes):
        order = torch.randperm(len(labels), generator=data.generator(number))
        for some in order.split(BATCH):
            yield data.to_input(pixels[some]), labels[some]


def again(one_pass: Pass, passes: int) -> Iterator[Batch]:
    """Yield the batches of several passes."""
    for _ in range(passes):
        yield from one_pass()


def consumed(batches: Iterator[Batch], expected: int) -> None:
    """Take every batch.

    Raises:
        UserError: they hold another number of pictures: the ways would not do the same work.
    """
    found = sum(len(x) for x, _ in batches)
    if found != expected:
        raise UserError(f"{found} pictures came in batches; expected {expected}")


def races(params: Params, manifests: Path, place: Path) -> list[Race]:
    """Build the comparisons on the manifests of a run.

    Args:
        params: the checked params.yaml.
        manifests: where they lie.
        place: an empty folder for the same pictures as others keep them.
    """
    pictures = folds.load(params, manifests).images
    mode = peers.MODES[params.faces.channels]
    peers.write_folder(place / "folder", pictures)
    shards = peers.write_shards(place / "shards", pictures)
    parts = [
        p for name in folds.sources(params).values() for p in (manifests / name).glob("*.parquet")
    ]
    workers = cores.available()
    folder = peers.ImageFolder(place / "folder", mode)
    everyone = peers.hugging_face(parts, place / "cache", BATCH)
    shuffled = peers.webdataset(shards, mode, BATCH)
    # Each is opened once for all passes, so that a DataLoader keeps its workers.
    opened: dict[str, Callable[[], Pass]] = {
        f"ImageFolder + DataLoader, {n} workers": lambda n=n: (
            peers.loader(folder, BATCH, n).__iter__
        )
        for n in (0, workers)
    }
    opened |= {"datasets, torch format": lambda: everyone, "webdataset": lambda: shuffled}

    def race(passes: int, note: str, turns: int) -> Race:
        total = passes * len(pictures)
        ways = {OURS: lambda: consumed(ours(params, manifests, passes), total)}
        for name, way in opened.items():
            ways[name] = lambda way=way: consumed(again(way(), passes), total)
        name = f"disk to batches, {passes} pass{'es' if passes > 1 else ''}"
        work = alike(ways, "images", total)
        return Race(name, ways, work, note, TARGET, warm_up=passes == 1, turns=turns)

    size = f"{len(pictures)} pictures of {params.faces.size}x{params.faces.size}"
    return [
        race(1, f"{size}, batches of {BATCH}; files are in the system's cache for all", 5),
        race(PASSES, f"as often as a fit of the default profile sees a picture; {size}", 3),
    ]
