"""Stage `sample@<name>`: "have N images of this generator".

Reads params.yaml and the generator's weights; writes `data/manifests/<name>/part-*.parquet`.
Image i is a function of (spec, i): only what is missing, damaged or of another spec is made, in
whole aligned batches, and each part is replaced at once or not at all. So growing, shrinking or
killing a run at any moment ends, when it is run again, in the same rows as an undisturbed run.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from tqdm import tqdm

import generators
from generators.adapters.options import GeneratorBase
from generators.base import Generator
from pipeline import code, manifest, params
from pipeline.errors import UserError, one_line
from pipeline.folds import MANIFESTS
from pipeline.images import Jpeg, generated_to_pixels
from pipeline.params import Params, Sample
from pipeline.seeds import seed_for

# Of every 20 images 14 train, 3 valid, 3 test.
BLOCK = ("train",) * 14 + ("valid",) * 3 + ("test",) * 3
# What makes the pictures of a row; who asks for which rows and where they are put is not in it.
PICTURES = (
    "generators:load",
    "generators.sample:deterministic",
    "generators.sample:pictures",
    "pipeline.images:encode_png",
)


@functools.lru_cache(maxsize=64)
def _block_splits(block: int) -> tuple[str, ...]:
    order = sorted(range(len(BLOCK)), key=lambda place: seed_for(0, "split", block, place))
    return tuple(BLOCK[place] for place in order)


def split_of(index: int) -> str:
    """Return the split of image `index`: exact in every block of 20, whatever is added later.

    Each block has its own order, so that no period in the seeds (a list of prompts) falls together
    with the splits.

    >>> import collections
    >>> sorted(collections.Counter(map(split_of, range(40, 60))).items())
    [('test', 3), ('train', 14), ('valid', 3)]
    """
    return _block_splits(index // len(BLOCK))[index % len(BLOCK)]


def spec_digest(
    spec: dict[str, Any], options: GeneratorBase, size: int, channels: int, finish: Jpeg | None
) -> str:
    """Digest all that pixels depend on besides the seed (the batch too: rounding depends on it)."""
    whole = {
        "generator": spec,
        "batch": options.batch,
        "crop": options.crop,
        "size": size,
        "channels": channels,
        "finish": finish and asdict(finish),
        "code": code.digest_of(PICTURES, [options.adapter]),
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Job:
    """What `sample` brings a folder to: the images of one entry of params.yaml."""

    name: str
    options: GeneratorBase
    spec: str
    size: int
    channels: int
    finish: Jpeg | None = None

    def rows(self, start: int, stop: int) -> list[dict[str, Any]]:
        """Return what images `start`..`stop` - 1 say of themselves, all but their pixels."""
        return [
            {
                "image_id": f"{self.name}-{self.options.first_seed + index:08d}",
                "label": 1,
                "generator": self.name,
                "family": self.options.family,
                "seed": self.options.first_seed + index,
                "identity": None,
                "split": "test" if self.options.use == "test" else split_of(index),
                "width": self.size,
                "height": self.size,
                "spec": self.spec,
            }
            for index in range(start, stop)
        ]


def pictures(job: Job, generator: Generator, first: int) -> np.ndarray:
    """Sample the whole batch from image `first` on: uint8 (batch, size, size, channels)."""
    seeds = [job.options.first_seed + first + place for place in range(job.options.batch)]
    images = generator.sample(seeds)
    if len(images) != len(seeds):
        raise UserError(
            f"generator {job.name} gave {len(images)} images for {len(seeds)} seeds; expected "
            "one for each"
        )
    return generated_to_pixels(images.numpy(), job.size, job.channels, job.options.crop, job.finish)


def kept_rows(path: Path, wanted: list[dict[str, Any]]) -> tuple[dict[int, int], bool]:
    """Find which of the wanted rows a part holds already.

    The part is read wholly and its page checksums are verified, which costs far less than decoding
    the pictures; a part with a flipped byte counts as absent.

    Returns:
        The row number in the part by seed, and whether the part is exactly as wanted.
    """
    table = manifest.read_part(path)
    if table is None:
        return {}, False
    found = table.select(list(wanted[0])).to_pylist()
    # Pixels depend on seed and spec: a row with another name or family is relabelled, not remade.
    keys = {(row["seed"], row["spec"]) for row in wanted}
    kept = {
        row["seed"]: number
        for number, row in enumerate(found)
        if (row["seed"], row["spec"]) in keys
    }
    return kept, found == wanted


def fill(path: Path, start: int, stop: int, job: Job, generator: Generator, bar: tqdm) -> None:
    """Write the part of images `start`..`stop` - 1: rows on disk are kept, missing ones sampled."""
    rows = job.rows(start, stop)
    kept, _ = kept_rows(path, rows)
    old = manifest.read_part(path).to_pylist() if kept else []
    for first in range(0, len(rows), job.options.batch):
        places = range(first, min(first + job.options.batch, len(rows)))
        missing = [place for place in places if rows[place]["seed"] not in kept]
        for place in set(places) - {*missing}:
            row = old[kept[rows[place]["seed"]]] | rows[place]
            row["image"]["path"] = f"{row['image_id']}.png"
            rows[place] = row
        if not missing:
            continue
        pixels = pictures(job, generator, start + first)[[place - first for place in missing]]
        made = manifest.rows_of(
            pixels,
            ids=[rows[place]["image_id"] for place in missing],
            splits=[rows[place]["split"] for place in missing],
            generator=job.name,
            family=job.options.family,
            spec=job.spec,
            seeds=[rows[place]["seed"] for place in missing],
            identities=[None] * len(missing),
        )
        for place, row in zip(missing, made, strict=True):
            rows[place] = row
        bar.update(len(missing))
    manifest.write_part(path, rows)


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
            f"generator {name} makes grey images and the profile is in colour: every detector "
            "would tell them by that alone; choose a colour generator"
        )
    finish = run.faces.finish
    spec = spec_digest(generator.spec(), options, size, channels, finish)
    job = Job(name, options, spec, size, channels, finish)
    # A part holds whole batches, so that no batch is sampled for two parts.
    rows_per_part = max(1, run.sample.rows_per_part // options.batch) * options.batch
    starts = range(0, options.images, rows_per_part)
    paths = [manifest.part_path(folder, part) for part in range(len(starts))]

    # Remove what no run needs: temporary files of a killed run, parts beyond the last.
    for stale in {*folder.glob(".part-*.tmp"), *folder.glob("part-*.parquet")} - {*paths}:
        stale.unlink()

    # Find the parts that are not as they should be.
    todo, missing = [], 0
    for path, start in zip(paths, starts, strict=True):
        stop = min(start + rows_per_part, options.images)
        kept, whole = kept_rows(path, job.rows(start, stop))
        if not whole:
            todo.append((path, start, stop))
            missing += stop - start - len(kept)

    # Make them; a log file wants fewer lines than a terminal.
    seconds = 0.5 if sys.stderr.isatty() else 10.0
    with tqdm(
        total=missing, desc=name, unit=" images", mininterval=seconds, disable=not missing
    ) as bar:
        if run.sample.workers > 1 and len(todo) > 1:
            spread(todo, job, run.sample, bar)
        else:
            for path, start, stop in todo:
                fill(path, start, stop, job, generator, bar)
    return options.images, missing


def spread(todo: list[tuple[Path, int, int]], job: Job, settings: Sample, bar: tqdm) -> None:
    """Make parts in worker processes, on this machine or on a Dask cluster that sees this folder.

    A part is one worker's whole, and workers use as many threads as this process would: so nothing
    but rounding can differ.

    Raises:
        UserError: the Dask extra is not installed.
    """
    with contextlib.ExitStack() as stack:
        if settings.backend == "dask":
            try:
                from distributed import Client
            except ImportError:
                raise UserError("sample.backend dask needs: pip install -e '.[dask]'") from None
            stack.enter_context(Client())
        stack.enter_context(joblib.parallel_config(settings.backend, n_jobs=settings.workers))
        made = joblib.Parallel(return_as="generator_unordered")(
            joblib.delayed(_fill_elsewhere)(Path.cwd(), *part, job, torch.get_num_threads())
            for part in todo
        )
        for images in made:
            bar.update(images)


def _fill_elsewhere(root: Path, path: Path, start: int, stop: int, job: Job, threads: int) -> int:
    """Make one part in a worker process; returns how many images were missing."""
    os.chdir(root)  # paths in params.yaml are relative to the project
    torch.set_num_threads(threads)
    deterministic()
    with tqdm(disable=True) as bar:
        kept, _ = kept_rows(path, job.rows(start, stop))
        fill(path, start, stop, job, _load_once(job.options), bar)
    return stop - start - len(kept)


@functools.lru_cache(maxsize=1)
def _load_once(options: GeneratorBase) -> Generator:
    return generators.load(options)


def deterministic() -> None:
    """Choose the kernels that give the same bits for the same batch, on CUDA too."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    # Short mantissas would move an image by more than a grey level from batch to batch.
    torch.backends.cudnn.allow_tf32 = False
    # As `use_deterministic_algorithms`, which imports PyTorch's compiler as well: two seconds.
    torch.set_deterministic_debug_mode("warn")


@one_line
def main() -> None:
    """Run the stage for the generator named on the command line."""
    if len(sys.argv) != 2:
        raise UserError("expected `python -m generators.sample <name of an entry of generators:>`")
    deterministic()
    name = sys.argv[1]
    folder = MANIFESTS / name
    images, made = sample(name, params.load(), folder)
    print(f"{name}: {images} images, {made} of them new, in {folder}")


if __name__ == "__main__":
    # By its import name: workers cannot be sent what stands in `__main__`.
    importlib.import_module("generators.sample").main()
