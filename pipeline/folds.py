"""Folds: which images a fit may see, and which it is tested on.

`python -m pipeline.folds` (stage `folds`) writes data/folds.json: for every manifest that
params.yaml names, its counts per split and the digest of each part. The fits depend on this file
rather than on folders, so that a folder left behind by a removed generator has no say in them.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline import manifest
from pipeline.errors import UserError, one_line
from pipeline.manifest import REAL, SPLITS
from pipeline.params import FAMILIES, FAMILY_PREFIX, Params
from pipeline.params import load as load_params

MANIFESTS = Path("data/manifests")
INDEX = Path("data/folds.json")
REAL_PREFIX = "real:"


@dataclass(frozen=True)
class Images:
    """Decoded images with what a detector may know of them.

    Attributes:
        pixels: uint8 (N, H, W, C).
        labels: int8 (N,), 1 = fake (the positive class), 0 = photograph.
        generators: str (N,), the generator's name, `real` for photographs.
        ids: str (N,), the image ids of the manifests.
    """

    pixels: np.ndarray
    labels: np.ndarray
    generators: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: np.ndarray) -> Images:
        """Return the images at `index` (a mask or positions)."""
        return Images(
            self.pixels[index], self.labels[index], self.generators[index], self.ids[index]
        )


@dataclass(frozen=True)
class Fold:
    """One leave-one-out fold.

    Attributes:
        train: train split of the photographs and of the training generators.
        valid: valid split of the same; models are selected and thresholds set on it.
        test: test split of the photographs and of *every* generator (held out or not), and every
            photograph of the other collections (`real:<name>`).
        splits: image id -> split as the manifests say, of every image of the fold.
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


def file_name(held_out: str) -> str:
    """Name of a held-out in files: `family:x` becomes `families/x`."""
    return held_out.replace(FAMILY_PREFIX, f"{FAMILIES}/")


def ids_digest(ids: np.ndarray) -> str:
    """Digest of a set of image ids: sha256 of the sorted ids, one a line."""
    return hashlib.sha256("\n".join(sorted(map(str, ids))).encode()).hexdigest()


def sources(params: Params) -> dict[str, str]:
    """Folders of the manifests that params.yaml names: generator name -> folder name."""
    return {
        REAL: REAL,
        **{name: name for name in params.generators},
        **{REAL_PREFIX + name: f"{REAL}_{name}" for name in params.other_reals},
    }


def _decode(frames: dict[str, pd.DataFrame]) -> Images:
    """Decode frames in the order of their names and, within a name, of image ids."""
    frames = {name: frame.sort_values("image_id", kind="stable") for name, frame in frames.items()}
    rows = pd.concat(frames.values(), ignore_index=True)
    if rows.empty:
        raise UserError(
            f"a split of {', '.join(frames)} holds no image; expected some: raise `images` or mend "
            "faces.split in params.yaml, then dvc repro"
        )
    names = np.repeat(list(frames), [len(frame) for frame in frames.values()])
    labels = rows["label"].to_numpy(np.int8)
    return Images(manifest.pixels(rows), labels, names, rows["image_id"].to_numpy(str))


def load(params: Params, held_out: str, folder: Path = MANIFESTS) -> Fold:
    """Load the fold that leaves `held_out` out of training.

    Names come from `params`, never from a listing of `folder`. The order of the images is that of
    params.yaml and, within a generator, of their ids.

    Args:
        params: the checked params.yaml.
        held_out: a generator, `none`, or `family:<name>`.
        folder: where the manifests lie.

    Raises:
        UserError: unknown `held_out`, a manifest that is missing or damaged, image ids that are
            not unique, images of another size, or a split or class without images.
    """
    training = (REAL, *params.training_generators(held_out))
    frames = {
        name: manifest.read(
            folder / source, ["image", "image_id", "label", "split", "width", "height"]
        )
        for name, source in sources(params).items()
    }
    every = pd.concat([frame[["image_id", "split"]] for frame in frames.values()])
    if twice := every["image_id"][every["image_id"].duplicated()].tolist():
        raise UserError(
            f"{len(twice)} image ids occur twice (the first: {twice[0]}); expected unique ids: "
            "delete the manifests of the generators concerned and run dvc repro"
        )
    size = params.faces.size
    for name, frame in frames.items():
        if wrong := int(((frame["width"] != size) | (frame["height"] != size)).sum()):
            raise UserError(
                f"{wrong} images of {name} are not {size}x{size}, as faces.size says; run dvc repro"
            )
    train, valid = (
        _decode({name: frames[name][frames[name]["split"] == split] for name in training})
        for split in ("train", "valid")
    )
    # Other collections are for testing only, whatever split their rows name.
    test = _decode(
        {
            name: frame if name.startswith(REAL_PREFIX) else frame[frame["split"] == "test"]
            for name, frame in frames.items()
        }
    )
    for name, part in (("train", train), ("valid", valid), ("test", test)):
        if set(part.labels.tolist()) != {0, 1}:
            raise UserError(
                f"split {name} of held-out {held_out} holds {int((part.labels == 0).sum())} "
                f"photographs and {int((part.labels == 1).sum())} fakes; expected both: raise "
                "`images` or mend faces.split in params.yaml"
            )
    return Fold(train, valid, test, dict(zip(every["image_id"], every["split"], strict=True)))


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
            f"{path} does not describe the manifests that lie in {folder}: they, or `generators` "
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
