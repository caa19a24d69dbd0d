"""Stage `sample@<name>`: "have N images of this generator".

Reads params.yaml and the generator's weights; writes `data/manifests/<name>/part-*.parquet`.
Image i is a function of (spec, i): only what is missing, damaged or of another spec is made, in
whole aligned batches, and each part is replaced at once or not at all. So growing, shrinking or
killing a run at any moment ends, when it is run again, in the same rows as an undisturbed run.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import generators
from generators.base import SAMPLING_VERSION, Generator
from pipeline import manifest, params
from pipeline.errors import UserError, one_line
from pipeline.images import generated_to_pixels
from pipeline.params import GeneratorBase, Params
from pipeline.seeds import seed_for

MANIFESTS = Path("data/manifests")
# Of every 20 images 14 train, 3 valid, 3 test.
BLOCK = ("train",) * 14 + ("valid",) * 3 + ("test",) * 3


def split_of(index: int) -> str:
    """Return the split of image `index`: exact in every block of 20, whatever is added later.

    Each block has its own order, so that no period in the seeds (a list of prompts) falls together
    with the splits.
    """
    block, place = divmod(index, len(BLOCK))
    order = sorted(range(len(BLOCK)), key=lambda one: seed_for(0, "split", block, one))
    return BLOCK[order.index(place)]


def spec_digest(spec: dict[str, Any], batch: int, size: int, channels: int) -> str:
    """Digest all that pixels depend on besides the seed; `batch` is in it, since rounding is."""
    whole = {
        "generator": spec,
        "batch": batch,
        "size": size,
        "channels": channels,
        "version": SAMPLING_VERSION,
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def expected_rows(
    name: str, options: GeneratorBase, spec: str, size: int, start: int, stop: int
) -> list[dict[str, Any]]:
    """Return what images `start`..`stop` - 1 say of themselves, all but the pixels."""
    rows = []
    for index in range(start, stop):
        seed = options.first_seed + index
        rows.append(
            {
                "image_id": f"{name}-{seed:08d}",
                "label": 1,
                "generator": name,
                "family": options.family,
                "seed": seed,
                "identity": None,
                "split": split_of(index),
                "width": size,
                "height": size,
                "spec": spec,
            }
        )
    return rows


def kept_rows(path: Path, expected: list[dict[str, Any]]) -> tuple[dict[int, int], bool]:
    """Find which expected rows a part holds already.

    The part is read wholly and its page checksums are verified, which costs far less than
    decoding; a part with a flipped byte counts as absent.

    Returns:
        The row number in the part by seed, and whether the part is exactly as expected.
    """
    table = manifest.read_part(path)
    if table is None:
        return {}, False
    found = table.select(list(expected[0])).to_pylist()
    wanted = {(row["seed"], row["spec"], row["width"], row["height"]) for row in expected}
    kept = {
        row["seed"]: number
        for number, row in enumerate(found)
        if (row["seed"], row["spec"], row["width"], row["height"]) in wanted
    }
    return kept, found == expected


def missing_batches(
    seeds: list[int], kept: dict[int, int], start: int, batch: int
) -> Iterator[tuple[int, list[int]]]:
    """Yield (first index, positions in the part of the missing rows) of each batch to sample."""
    for offset in range(0, len(seeds), batch):
        rows = range(offset, min(offset + batch, len(seeds)))
        gaps = [row for row in rows if seeds[row] not in kept]
        if gaps:
            yield start + offset, gaps


def make_batch(
    generator: Generator, options: GeneratorBase, first: int, size: int, channels: int
) -> np.ndarray:
    """Sample the whole batch that starts at image `first`: uint8 (batch, size, size, channels)."""
    seeds = range(options.first_seed + first, options.first_seed + first + options.batch)
    images = generator.sample(seeds)
    if len(images) != len(seeds):
        raise UserError(f"the generator gave {len(images)} images for {len(seeds)} seeds")
    return generated_to_pixels(images.numpy(), size, channels)


def sample(name: str, run: Params, folder: Path) -> tuple[int, int]:
    """Bring `folder` to exactly the images that `run` asks of generator `name`.

    Memory is bounded by one part and one batch.

    Args:
        name: an entry of `generators:`.
        run: the params.
        folder: the generator's manifest.

    Returns:
        How many images the manifest holds, and how many of them were made now.

    Raises:
        UserError: unknown name, or a generator that is absent, damaged or unfit for the profile.
    """
    if name not in run.generators:
        raise UserError(
            f"generator {name!r} is unknown; params.yaml has {', '.join(run.generators)}"
        )
    options, size, channels = run.generators[name], run.faces.size, run.faces.channels
    generator = generators.load(options)
    if generator.channels < channels:
        raise UserError(
            f"generator {name} makes grey images and the profile is in colour: every detector would "
            "tell them by that alone; choose a colour generator"
        )
    spec = spec_digest(generator.spec(), options.batch, size, channels)
    # A part holds whole batches, so that no batch is sampled for two parts.
    rows_per_part = max(1, run.sample.rows_per_part // options.batch) * options.batch

    # Remove what no run needs: temporary files of a killed run, parts beyond the last.
    starts = range(0, options.images, rows_per_part)
    paths = [manifest.part_path(folder, part) for part in range(len(starts))]
    for stale in {*folder.glob(".part-*.tmp"), *folder.glob("part-*.parquet")} - {*paths}:
        stale.unlink()

    # Find what is to be done.
    todo = []
    for path, start in zip(paths, starts, strict=True):
        stop = min(start + rows_per_part, options.images)
        expected = expected_rows(name, options, spec, size, start, stop)
        kept, whole = kept_rows(path, expected)
        if not whole:
            seeds = [row["seed"] for row in expected]
            gaps = list(missing_batches(seeds, kept, start, options.batch))
            todo.append((path, start, expected, kept, gaps))

    # Do it, a part at a time.
    made = sum(len(rows) for *_, gaps in todo for _, rows in gaps)
    quiet = 0.5 if sys.stderr.isatty() else 10.0  # a log wants a line now and then
    with tqdm(total=made, desc=name, unit="image", mininterval=quiet, disable=not made) as bar:
        for path, start, expected, kept, gaps in todo:
            rows: list[dict[str, Any] | None] = [None] * len(expected)
            if kept:
                old = manifest.read_part(path).to_pylist()
                for place, row in enumerate(expected):
                    if row["seed"] in kept:
                        rows[place] = old[kept[row["seed"]]] | row
                        rows[place]["image"]["path"] = f"{row['image_id']}.png"
            for first, places in gaps:
                pixels = make_batch(generator, options, first, size, channels)
                new = [expected[place] for place in places]
                fresh = manifest.rows_of(
                    pixels[[start + place - first for place in places]],
                    ids=[row["image_id"] for row in new],
                    splits=[row["split"] for row in new],
                    generator=name,
                    family=options.family,
                    spec=spec,
                    seeds=[row["seed"] for row in new],
                    identities=[None] * len(new),
                )
                for place, row in zip(places, fresh, strict=True):
                    rows[place] = row
                bar.update(len(places))
            manifest.write_part(path, rows)
    return options.images, made


def deterministic() -> None:
    """Make the same batch give the same bits each time, on CUDA too."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    # Reduced mantissas would move an image by more than a grey level from one batch size to another.
    torch.backends.cudnn.allow_tf32 = False
    torch.use_deterministic_algorithms(True, warn_only=True)


@one_line
def main() -> None:
    """Run the stage for the generator named on the command line."""
    if len(sys.argv) != 2:
        raise UserError("usage: python -m generators.sample <name of an entry of generators:>")
    deterministic()
    name = sys.argv[1]
    folder = MANIFESTS / name
    images, made = sample(name, params.load(), folder)
    print(f"{name}: {images} images, {made} of them new, in {folder}")


if __name__ == "__main__":
    main()
