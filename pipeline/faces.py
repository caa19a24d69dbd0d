"""Stage `faces@<name>`: photographs of a collection become a manifest, the unfit a quarantine.

`python -m pipeline.faces <name>` reads params.yaml and the source that `photographs.<name>` names,
and writes data/manifests/real_<name>/ and data/quarantine/real_<name>.parquet. The new manifest is
built beside the old one and takes its place only when it is whole and the gates have passed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from tqdm import tqdm

from pipeline import container, images, manifest
from pipeline.errors import UserError, one_line
from pipeline.params import REAL_PREFIX, Params, load
from pipeline.photographs import Collection, Faces, Split
from pipeline.seeds import seed_for
from pipeline.sources import Photograph, Source, open_source

QUARANTINE = pa.schema(
    [("path", pa.string()), ("reason", pa.string()), ("detail", pa.string())],
    metadata={b"deepfd": json.dumps({"schema": "quarantine", "version": 1}).encode()},
)


@dataclass(frozen=True)
class Unfit:
    """A row of the quarantine.

    `reason` is unreadable, too_small, no_identity, duplicate or near_duplicate.
    """

    path: str
    reason: str
    detail: str


def split_persons(persons: Iterable[str], shares: Split, seed: int) -> dict[str, str]:
    """Give each person a split; the counts are the shares rounded by largest remainder.

    Persons are shuffled by a draw of their own (`seed_for(seed, "split", person)`), so that a new
    person moves at most those at the borders.
    """
    order = sorted(set(persons), key=lambda person: (seed_for(seed, "split", person), person))
    exact = {split: getattr(shares, split) * len(order) for split in manifest.SPLITS}
    counts = {split: int(value + 1e-9) for split, value in exact.items()}
    left = len(order) - sum(counts.values())
    for split in sorted(exact, key=lambda split: counts[split] - exact[split])[:left]:
        counts[split] += 1
    splits = [split for split in manifest.SPLITS for _ in range(counts[split])]
    return dict(zip(order, splits, strict=True))


def split_content(image: Image.Image, shares: Split, seed: int) -> str:
    """Give a photograph without a known person a split by the digest of its own pixels.

    They are taken upright, whole and in RGB, before any crop: so a photograph keeps its split when
    others are added or removed, at any size or crop, and in another file (another name, format,
    compression without loss or metadata).
    """
    digest = images.pixel_sha256(np.asarray(images.to_mode(image, 3)))
    draw = seed_for(seed, "split", digest) / 2**63
    if draw < shares.train:
        return "train"
    return "valid" if draw < shares.train + shares.valid else "test"


def spec_of(faces: Faces, collection: Collection) -> str:
    """Digest of all that the pixels depend on besides the photograph."""
    values = {
        "source": collection.source,
        "revision": collection.revision,
        "size": faces.size,
        "channels": faces.channels,
        "crop": collection.crop,
        "finish": faces.finish and asdict(faces.finish),
        "filter": images.FILTER.name,
        "manifest": manifest.VERSION,
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Recipe:
    """How photographs become rows.

    Attributes:
        faces: the way to pixels and what is asked of a photograph.
        crop: of the collection.
        generator: `real:<name>`.
        spec: digest of all that the pixels depend on besides the photograph.
        split_of: gives a photograph, decoded upright, its split.
    """

    faces: Faces
    crop: images.Crop
    generator: str
    spec: str
    split_of: Callable[[Photograph, Image.Image], str]

    def prepare(self, photograph: Photograph) -> dict[str, Any] | Unfit:
        """Decode one photograph into a manifest row, or say why it is unfit."""
        faces = self.faces
        try:
            data = photograph.read()
            image = images.open_image(data)
            left, upper, right, lower = images.crop_box(*image.size, self.crop)
            if min(right - left, lower - upper) < faces.min_side:
                detail = (
                    f"{image.width}x{image.height}, the crop {right - left:g}x{lower - upper:g}; "
                    f"expected at least {faces.min_side} a side"
                )
                return Unfit(photograph.name, "too_small", detail)
            pixels = images.to_pixels(image, faces.size, faces.channels, self.crop, faces.finish)
            split = self.split_of(photograph, image)
            source = container.describe(data, image.size, self.crop, faces.size)
        except UserError as error:
            return Unfit(photograph.name, "unreadable", str(error))
        except OSError as error:  # its whole text would bear the path on this machine
            return Unfit(photograph.name, "unreadable", error.strerror or str(error))
        image_id = f"{self.generator.replace(':', '_')}-{images.pixel_sha256(pixels)[:16]}"
        return manifest.rows_of(
            pixels[None], ids=[image_id], splits=[split], generator=self.generator,
            family=manifest.REAL, spec=self.spec, seeds=[None], identities=[photograph.identity],
            sources=[source],
        )[0]  # fmt: skip


class Seen:
    """The photographs so far, to find what a further one repeats.

    Where photographs are split by content, the same scene in two files can come into two splits,
    and a test photograph would be one that was learned. The later of two such is unfit.
    """

    def __init__(self, near_bits: int | None) -> None:
        self.near_bits = near_bits
        self.names: list[str] = []
        self.splits = np.empty(0, dtype="U5")
        self.hashes = np.empty((0, 4), dtype=np.uint64)
        self.first: dict[str, str] = {}  # digest of the pixels: name of the first such photograph

    def repeats(self, name: str, row: dict[str, Any]) -> Unfit | None:
        """Say what a row repeats; if nothing, keep it in mind."""
        known = self.first.setdefault(row["sha256"], name)
        if known != name:
            return Unfit(name, "duplicate", f"same pixels as {known}")
        if self.near_bits is None:
            return None
        found = images.perceptual_hash(images.open_image(row["image"]["bytes"]))
        found = np.packbits(found).view(np.uint64)
        count = len(self.names)
        elsewhere = np.flatnonzero(self.splits[:count] != row["split"])
        bits = np.bitwise_count(self.hashes[elsewhere] ^ found).sum(axis=1)
        if len(bits) and (least := int(bits.min())) <= self.near_bits:
            other = int(elsewhere[bits.argmin()])
            return Unfit(
                name,
                "near_duplicate",
                f"{least} of 256 bits from {self.names[other]}, which is in {self.splits[other]}",
            )
        if count == len(self.hashes):  # grown by doubling
            self.hashes = np.resize(self.hashes, (max(1024, 2 * count), 4))
            self.splits = np.resize(self.splits, max(1024, 2 * count))
        self.names.append(name)
        self.hashes[count], self.splits[count] = found, row["split"]
        return None


def build(
    source: Source, faces: Faces, collection: Collection, name: str, seed: int,
    target: Path, quarantine: Path, near_bits: int | None = None,
) -> Counter[str]:  # fmt: skip
    """Write a collection's manifest and quarantine table.

    Args:
        source: the photographs.
        faces: the way to pixels and the gates.
        collection: its crop, and whether it is for testing only.
        name: of the collection.
        seed: of the splits.
        target: the manifest's folder, replaced as a whole.
        quarantine: the table of the unfit.
        near_bits: where photographs are split by content, one whose perceptual hash is so few bits
            or fewer from that of an earlier one of another split is unfit.

    Returns:
        How many photographs each split and each reason of the quarantine has.

    Raises:
        UserError: more than `max_broken` of them unfit, or an empty split; nothing is replaced.
    """
    test_only = collection.use == "test"
    by_person = split_persons(source.persons or (), faces.split, seed)

    def split_of(photograph: Photograph, image: Image.Image) -> str:
        if test_only:
            return "test"
        if source.persons is None:
            return split_content(image, faces.split, seed)
        return by_person[photograph.identity or ""]

    recipe = Recipe(
        faces, collection.crop, REAL_PREFIX + name, spec_of(faces, collection), split_of
    )

    def work(photograph: Photograph) -> dict[str, Any] | Unfit:
        if source.persons is not None and photograph.identity is None:
            # Unknown to whom it belongs, it may show a person of another split.
            detail = f"expected a line in photographs.{name}.identities"
            return Unfit(photograph.name, "no_identity", detail)
        return recipe.prepare(photograph)

    fresh = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        rows: list[dict[str, Any]] = []
        unfit: list[Unfit] = []
        seen = Seen(near_bits if source.persons is None and not test_only else None)
        counts: Counter[str] = Counter()
        part = 0
        for photograph, result in _in_order(work, source, faces.rows_per_part):
            if isinstance(result, dict):
                result = seen.repeats(photograph.name, result) or result
            if isinstance(result, Unfit):
                unfit.append(result)
                counts[result.reason] += 1
                continue
            rows.append(result)
            counts[result["split"]] += 1
            if len(rows) == faces.rows_per_part:
                manifest.write_part(manifest.part_path(fresh, part), rows)
                rows, part = [], part + 1
        if rows:
            manifest.write_part(manifest.part_path(fresh, part), rows)
        expected = ["test"] if test_only else [s for s, x in faces.split if x > 0]
        _gate(unfit, counts, source.total, faces, expected)
        manifest.swap_in(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    # A file name need not be UTF-8; Parquet's text must.
    table = [
        {key: text.encode(errors="backslashreplace").decode() for key, text in vars(one).items()}
        for one in unfit
    ]
    manifest.write_table(quarantine, pa.Table.from_pylist(table, QUARANTINE))
    return counts


def _in_order(
    work: Callable[[Photograph], dict[str, Any] | Unfit], source: Source, chunk: int
) -> Iterator[tuple[Photograph, dict[str, Any] | Unfit]]:
    """Apply `work` in threads (Pillow frees the interpreter), `chunk` photographs at a time."""
    stream = iter(source.photographs)
    with ThreadPoolExecutor() as pool, tqdm(total=source.total, unit=" images") as bar:
        while batch := list(islice(stream, chunk)):
            for pair in zip(batch, pool.map(work, batch), strict=True):
                yield pair
                bar.update()


def _gate(
    unfit: list[Unfit], counts: Mapping[str, int], total: int, faces: Faces, splits: Iterable[str]
) -> None:
    """Stop where too much is broken (duplicates are not) or a split is empty."""
    broken = [one for one in unfit if not one.reason.endswith("duplicate")]
    if len(broken) > faces.max_broken * total:
        reasons = _counted(Counter(one.reason for one in broken))
        examples = "; ".join(f"{one.path}: {one.detail}" for one in broken[:3])
        raise UserError(
            f"{len(broken)} of {total} photographs are broken ({reasons}); expected at most "
            f"{faces.max_broken:.2%} (faces.max_broken): mend or remove them, e.g. {examples}"
        )
    for split in splits:
        if not counts.get(split):
            raise UserError(
                f"split {split} has no photograph of {total}; expected at least 1: "
                "add photographs (persons) or change faces.split"
            )


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def run(params: Params, name: str, data: Path = Path("data")) -> Counter[str]:
    """Make the manifest of a collection, an entry of `photographs:`.

    Raises:
        UserError: an unknown name, or see `build`.
    """
    if name not in params.photographs:
        names = ", ".join(params.photographs)
        raise UserError(f"photographs {name!r} are unknown; expected one of {names}")
    collection, stem = params.photographs[name], f"{manifest.REAL}_{name}"
    return build(
        open_source(collection, params.faces.rows_per_part), params.faces, collection, name,
        params.seed, data / "manifests" / stem, data / "quarantine" / f"{stem}.parquet",
        params.audit.near_bits,
    )  # fmt: skip


@one_line
def main(argv: list[str] | None = None) -> None:
    """Run the stage on ./params.yaml."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.faces", description=__doc__)
    parser.add_argument("name", help="an entry of `photographs` in params.yaml")
    name = parser.parse_args(argv).name
    counts = run(load(), name)
    kept = {split: counts.pop(split) for split in manifest.SPLITS if split in counts}
    print(
        f"{name}: {sum(kept.values())} photographs ({_counted(kept)}), "
        f"{counts.total()} in quarantine" + (f" ({_counted(counts)})" if counts else "")
    )


if __name__ == "__main__":
    main()
