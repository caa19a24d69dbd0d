"""From pixels in memory to pictures on disk, lossless.

Ours writes manifests, with a digest of every picture, through a temporary name, synced to the disk;
the others neither digest nor sync.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.speed import peers
from benchmarks.speed.turns import OURS, Race, alike
from pipeline import images, manifest
from pipeline.folds import Images
from pipeline.params import Params


def ours(pictures: Images, folder: Path, per_part: int) -> None:
    """Write a manifest."""
    for number, first in enumerate(range(0, len(pictures), per_part)):
        some = slice(first, first + per_part)
        count = len(pictures.labels[some])
        rows = manifest.rows_of(
            pictures.pixels[some],
            ids=pictures.ids[some].tolist(),
            splits=["train"] * count,
            generator="speed",
            family="speed",
            spec="speed",
            seeds=list(range(count)),
            identities=[None] * count,
        )
        manifest.write_part(manifest.part_path(folder, number), rows)


def hugging_face(pictures: Images, folder: Path) -> None:
    """Write a dataset by `Dataset.from_generator`, as its documentation has it."""
    import datasets

    def rows() -> Iterator[dict[str, Any]]:
        for pixels, label in zip(pictures.pixels, pictures.labels, strict=True):
            yield {"image": images.to_pil(pixels), "label": int(label)}

    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int8")})
    datasets.disable_progress_bars()
    # A fingerprint of its own: one that is known would be taken from the cache.
    datasets.Dataset.from_generator(
        rows, features=features, cache_dir=str(folder), fingerprint=folder.name
    )


def races(params: Params, pictures: Images, place: Path) -> list[Race]:
    """Build the comparison.

    Args:
        params: the checked params.yaml.
        pictures: what is written.
        place: an empty folder.
    """
    number = itertools.count()

    def fresh(write: Callable[[Path], None]) -> Callable[[], None]:
        def call() -> None:
            folder = place / f"w{next(number)}"
            write(folder)
            shutil.rmtree(folder)

        return call

    ways = {
        OURS: fresh(lambda folder: ours(pictures, folder, params.sample.rows_per_part)),
        "PNG files one by one": fresh(lambda folder: peers.write_folder(folder, pictures)),
        "datasets.from_generator": fresh(lambda folder: hugging_face(pictures, folder)),
    }
    note = "the same PNG encoder at work in all three; ours adds digests and syncs to the disk"
    return [Race("pixels to disk", ways, alike(ways, "images", len(pictures)), note)]
