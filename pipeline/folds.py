"""Folds: which images a fit may see, and which it is tested on.

`python -m pipeline.folds` (stage `folds`) writes data/folds.json: for every manifest that
params.yaml names, its counts per split and the digest of each part. The fits depend on this file
rather than on folders, so that a folder left behind by a removed generator has no say in them.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import multiprocessing
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import cores, manifest
from pipeline.errors import UserError, one_line
from pipeline.manifest import REAL, SPLITS
from pipeline.params import NONE, REAL_PREFIX, Params
from pipeline.params import load as load_params

# Pictures that one process decodes about as fast as another is started.
FEW = 1000
MANIFESTS = Path("data/manifests")
INDEX = Path("data/folds.json")

_target: np.ndarray


@dataclass(frozen=True)
class Images:
    """Decoded images with what a detector may know of them.

    Attributes:
        pixels: uint8 (N, H, W, C).
        labels: int8 (N,), 1 = fake (the positive class), 0 = photograph.
        generators: str (N,), the generator's name, `real:<collection>` for photographs.
        ids: str (N,), the image ids of the manifests.
        identities: str (N,), the person on a photograph; "" where unknown, and for all if left out.
    """

    pixels: np.ndarray
    labels: np.ndarray
    generators: np.ndarray
    ids: np.ndarray
    identities: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.str_))

    def __post_init__(self) -> None:
        if not len(self.identities):
            object.__setattr__(self, "identities", np.full(len(self.labels), "", dtype=np.str_))

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: np.ndarray) -> Images:
        """Return the images at `index` (a mask or positions)."""
        return Images(
            self.pixels[index], self.labels[index], self.generators[index], self.ids[index],
            self.identities[index],
        )  # fmt: skip


@dataclass(frozen=True)
class Fold:
    """One leave-one-out fold.

    Attributes:
        train: train split of the collections and generators that are not held out.
        valid: valid split of the same; models are selected and thresholds set on it.
        test: test split of *every* collection of photographs and *every* generator, held out, for
            testing only, or neither.
        splits: image id -> split as the manifests say, of every image.
    """

    train: Images
    valid: Images
    test: Images
    splits: dict[str, str]

    def describe_reads(self, ids: np.ndarray) -> dict[str, Any]:
        """Describe a set of images that something read, so that an audit can check it.

        Returns:
            `digest` (see `ids_digest`), `n`, and `counts`: generator -> split -> number, by the
            manifests and not by the name of the variable the images came in.

        Raises:
            UserError: an id that no image of the fold has.
        """
        names = {}
        for part in (self.train, self.valid, self.test):
            names.update(zip(part.ids.tolist(), part.generators.tolist(), strict=True))
        if foreign := [str(i) for i in ids if i not in names]:
            raise UserError(
                f"{len(foreign)} of {len(ids)} image ids that were read are none of the fold (the "
                f"first: {foreign[0]}); expected images of its train, valid or test split: pass on "
                "the ids that the method was given"
            )
        counts: dict[str, dict[str, int]] = {}
        for (name, split), n in sorted(Counter((names[i], self.splits[i]) for i in ids).items()):
            counts.setdefault(name, {})[split] = n
        return {"digest": ids_digest(ids), "n": len(ids), "counts": counts}


@dataclass(frozen=True)
class Corpus:
    """Every image of a run, decoded once; each fold is a choice among them.

    Attributes:
        params: the checked params.yaml.
        images: all images, in the order of params.yaml (photographs first) and of their ids.
        split: str (N,), as the manifests say.
        splits: the same by image id.
    """

    params: Params
    images: Images
    split: np.ndarray
    splits: dict[str, str]

    def fold(self, held_out: str) -> Fold:
        """Return the fold that leaves `held_out` out of training.

        Args:
            held_out: a generator, `none`, `family:<name>`, `real:<collection>`, or
                `<generator>+real:<collection>`.

        Raises:
            UserError: unknown `held_out`, or a split or class without images.
        """
        seen = np.isin(self.images.generators, self.params.training(held_out))
        parts = {
            "train": seen & (self.split == "train"),
            "valid": seen & (self.split == "valid"),
            "test": self.split == "test",
        }
        for name, part in parts.items():
            labels = self.images.labels[part]
            if set(labels.tolist()) != {0, 1}:
                raise UserError(
                    f"split {name} of held-out {held_out} holds {int((labels == 0).sum())} "
                    f"photographs and {int((labels == 1).sum())} fakes; expected both: raise "
                    "`images` or mend faces.split in params.yaml, then dvc repro"
                )
        train, valid, test = (self.images.subset(part) for part in parts.values())
        return Fold(train, valid, test, self.splits)


def file_name(held_out: str) -> str:
    """Name of a held-out in files; no name of params.yaml has a hyphen.

    >>> file_name("family:x"), file_name("a+real:y")
    ('family-x', 'a-real-y')
    """
    return held_out.replace(":", "-").replace("+", "-")


def union(several: Sequence[Images]) -> Images:
    """Return every image of some sets once, in the order of their first coming."""
    new, known = [], np.empty(0, dtype=np.str_)
    for one in several:
        new.append(one.subset(~np.isin(one.ids, known)))
        known = np.concatenate([known, new[-1].ids])
    return Images(*(np.concatenate([getattr(i, f.name) for i in new]) for f in fields(Images)))


def ids_digest(ids: np.ndarray) -> str:
    """Digest of a set of image ids: sha256 of the sorted ids, one a line."""
    return hashlib.sha256("\n".join(sorted(map(str, ids))).encode()).hexdigest()


def sources(params: Params) -> dict[str, str]:
    """Folders of the manifests that params.yaml names, photographs first: generator -> folder."""
    return {
        **{REAL_PREFIX + name: f"{REAL}_{name}" for name in params.photographs},
        **{name: name for name in params.generators},
    }


def test_only(params: Params, source: str) -> bool:
    """Whether a collection (`real:<name>`) or generator is never trained on."""
    return source not in params.training(NONE)


def load(params: Params, folder: Path = MANIFESTS) -> Corpus:
    """Decode every image that `params` names, each straight to its place in one array.

    Names come from `params`, never from a listing of `folder`. The order of the images is that of
    params.yaml and, within a generator, of their ids.

    Args:
        params: the checked params.yaml.
        folder: where the manifests lie.

    Raises:
        UserError: a manifest that is missing or damaged, image ids that are not unique, images of
            another size, or of another split than test where a source is for testing only.
    """
    columns = ["image_id", "label", "split", "identity", "width", "height"]
    size, frames = params.faces.size, []
    for name, source in sources(params).items():
        frame = pa.concat_tables(manifest.parts(folder / source, columns)).to_pandas()
        if wrong := int(((frame["width"] != size) | (frame["height"] != size)).sum()):
            raise UserError(
                f"{wrong} images of {name} are not {size}x{size}, as faces.size says; run dvc repro"
            )
        wrong = int((frame["split"] != "test").sum()) if test_only(params, name) else 0
        if wrong:
            raise UserError(
                f"{wrong} images of {name} are to be trained on, and params.yaml says `use: test`; "
                "run dvc repro"
            )
        frames.append(frame.sort_values("image_id", kind="stable").assign(generator=name))
    # The index of a frame says in which row of the manifest each of its images stands.
    orders = [frame.index.to_numpy() for frame in frames]
    rows = pd.concat(frames, ignore_index=True)
    if twice := rows["image_id"][rows["image_id"].duplicated()].tolist():
        raise UserError(
            f"{len(twice)} image ids occur twice (the first: {twice[0]}); expected unique ids: "
            "delete the manifests of the generators concerned and run dvc repro"
        )
    images = Images(
        _pixels(params, folder, orders), rows["label"].to_numpy(np.int8),
        *(rows[name].fillna("").to_numpy(str) for name in ("generator", "image_id", "identity")),
    )  # fmt: skip
    splits = dict(zip(rows["image_id"], rows["split"], strict=True))
    return Corpus(params, images, rows["split"].to_numpy(str), splits)


def _pixels(params: Params, folder: Path, orders: Sequence[np.ndarray]) -> np.ndarray:
    """Decode the manifests that `params` names into one array, a part on each core.

    Args:
        params: the checked params.yaml.
        folder: where the manifests lie.
        orders: int (n,) of each manifest, the row that each of its images stands in.

    Returns:
        uint8 (N, H, W, C).
    """
    shape = (sum(map(len, orders)), *(params.faces.size,) * 2, params.faces.channels)
    jobs, begin = [], 0
    for source, order in zip(sources(params).values(), orders, strict=True):
        places = np.empty(len(order), np.int64)
        places[order] = np.arange(begin, begin + len(order))
        first = 0
        for path in manifest.paths(folder / source):
            rows = pq.read_metadata(path).num_rows
            jobs.append((path, places[first : first + rows]))
            first += rows
        begin += len(order)
    processes = min(cores.available(), len(jobs), shape[0] // FEW)
    if processes < 2:
        pixels = np.empty(shape, np.uint8)
        _set_up(pixels)
        for job in jobs:
            _decode(*job)
        return pixels
    # Memory that processes share: each writes the pictures of its parts to their places. (The
    # decoder holds the interpreter's lock, so threads would gain nothing.)
    pixels = np.frombuffer(mmap.mmap(-1, int(np.prod(shape))), np.uint8).reshape(shape)
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, context, _set_up, (pixels,)) as pool:
        list(pool.map(_decode, *zip(*jobs, strict=True)))
    return pixels


def _set_up(pixels: np.ndarray) -> None:
    """Say where `_decode` puts what it decodes."""
    global _target
    _target = pixels


def _decode(path: Path, places: np.ndarray) -> None:
    """Decode one part, row i to the place `places[i]`."""
    manifest.decode(manifest.part(path, ["image"]), _target, places)


def _parts(folder: Path) -> dict[str, str]:
    """Digest of every part of a manifest, by file name."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("part-*.parquet"))
    }


def index(params: Params, folder: Path = MANIFESTS) -> dict[str, Any]:
    """Describe every manifest that `params` names: family, counts per split, digest of each part.

    Raises:
        UserError: a manifest is missing or damaged.
    """
    entries = {}
    for name, source in sources(params).items():
        splits = manifest.read(folder / source, ["split"])["split"]
        entries[name] = {
            "family": params.generators[name].family if name in params.generators else REAL,
            "splits": {split: int((splits == split).sum()) for split in SPLITS},
            "parts": _parts(folder / source),
        }
    return entries


def data_digest(params: Params, path: Path = INDEX, folder: Path = MANIFESTS) -> str:
    """Return the sha256 of folds.json, which stands for all the data of a run.

    Raises:
        UserError: there is no such file, or it does not describe the manifests as they are.
    """
    if not path.is_file():
        raise UserError(
            f"{path} not found; expected what stage `folds` writes: run dvc repro folds"
        )
    data = path.read_bytes()
    parts = {name: entry["parts"] for name, entry in json.loads(data).items()}
    if parts != {name: _parts(folder / source) for name, source in sources(params).items()}:
        raise UserError(
            f"{path} does not describe the manifests that lie in {folder}: they, or the names "
            "in params.yaml, have changed since; run dvc repro folds"
        )
    return hashlib.sha256(data).hexdigest()


@one_line
def main() -> None:
    """Write data/folds.json."""
    entries = index(load_params())
    manifest.write_atomic(INDEX, (json.dumps(entries, indent=1) + "\n").encode())
    for name, entry in entries.items():
        counts = ", ".join(f"{n} {split}" for split, n in entry["splits"].items())
        print(f"folds: {name}: {counts}", file=sys.stderr)


if __name__ == "__main__":
    main()
