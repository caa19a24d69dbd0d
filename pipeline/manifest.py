"""Manifests: the Parquet tables that hold every image of the project, photographs and fakes alike.

A manifest is a folder of parts (`part-00000.parquet`, ...), each written to a temporary name and
renamed, so that a part is either whole or absent. The pictures are inside (PNG, lossless), in the
layout of the Hugging Face `Image` feature: `datasets.load_dataset("parquet", data_files=...)`,
pandas and DuckDB read them as they are. Label 1 is fake, the positive class everywhere.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import images
from pipeline.atomic import write_atomic
from pipeline.errors import UserError

VERSION = 1
SPLITS = ("train", "valid", "test")
REAL = "real"

# How a photograph came, see `pipeline.container`.
SOURCE = pa.struct(
    [
        ("format", pa.string()),
        ("quality", pa.int32()),
        ("tables", pa.string()),
        ("subsampling", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("reduction", pa.float32()),
    ]
)
SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("image_id", pa.string()),
        ("label", pa.int8()),
        ("generator", pa.string()),
        ("family", pa.string()),
        ("seed", pa.int64()),
        ("identity", pa.string()),
        ("split", pa.string()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("spec", pa.string()),
    ]
)
# Photographs have a column more.
PHOTOGRAPHS = SCHEMA.append(pa.field("source", SOURCE))


def _metadata(schema: pa.Schema) -> dict[bytes, bytes]:
    """Name a schema, and describe its columns for Hugging Face datasets, which read them there."""

    def described(kind: pa.DataType) -> dict[str, Any]:
        if pa.types.is_struct(kind):
            return {field.name: described(field.type) for field in kind}
        return {"_type": "Value", "dtype": {"float": "float32"}.get(str(kind), str(kind))}

    features = {
        field.name: {"_type": "Image"} if field.name == "image" else described(field.type)
        for field in schema
    }
    return {
        b"deepfd": json.dumps({"schema": "manifest", "version": VERSION}).encode(),
        b"huggingface": json.dumps({"info": {"features": features}}).encode(),
    }


# With their metadata, by the number of columns.
SCHEMAS = {len(one): one.with_metadata(_metadata(one)) for one in (SCHEMA, PHOTOGRAPHS)}


def is_real(generator: str) -> bool:
    """Whether a generator's name stands for photographs: `real`, or `real:<collection>`."""
    return generator == REAL or generator.startswith(f"{REAL}:")


def part_path(folder: Path, index: int) -> Path:
    """Path of part number `index`."""
    return folder / f"part-{index:05d}.parquet"


def rows_of(
    pixels: np.ndarray,
    *,
    ids: Sequence[str],
    splits: Sequence[str],
    generator: str,
    family: str,
    spec: str,
    seeds: Sequence[int | None],
    identities: Sequence[str | None],
    sources: Sequence[dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Build manifest rows for uint8 pixels (N, H, W, C), one per image.

    `sources` says how each photograph came (`pipeline.container`); None for fakes.
    """
    return [
        {
            "image": {"bytes": images.encode_png(one), "path": f"{image_id}.png"},
            "image_id": image_id,
            "label": int(not is_real(generator)),
            "generator": generator,
            "family": family,
            "seed": seed,
            "identity": identity,
            "split": split,
            "sha256": images.pixel_sha256(one),
            "width": one.shape[1],
            "height": one.shape[0],
            "spec": spec,
            **({"source": source} if source else {}),
        }
        for one, image_id, split, seed, identity, source in zip(
            pixels, ids, splits, seeds, identities, sources or [None] * len(ids), strict=True
        )
    ]  # fmt: skip


def write_table(path: Path, table: pa.Table) -> None:
    """Write any Arrow table as Parquet, atomically; the same table gives the same bytes."""
    sink = pa.BufferOutputStream()
    # No statistics: they would repeat the smallest and the largest picture of every part.
    pq.write_table(
        table, sink, compression="zstd", write_page_checksum=True, write_statistics=False
    )
    write_atomic(path, sink.getvalue())


def write_part(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write one part of a manifest, atomically; rows that say how they came are photographs."""
    schema = SCHEMAS[len(PHOTOGRAPHS if "source" in rows[0] else SCHEMA)]
    write_table(path, pa.Table.from_pylist(list(rows), schema))


def swap_in(fresh: Path, folder: Path) -> None:
    """Put the folder `fresh` in the place of `folder`: a kill leaves the old or the new, whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        fresh.rename(folder)
        return
    if not _exchange(fresh, folder):
        # No exchange on this system: for a moment there is none, which a reader sees as not made.
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        fresh.rename(folder)
        old.rename(fresh)
    shutil.rmtree(fresh)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step (Linux renameat2); False where that cannot be done."""
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    at_cwd, exchange = -100, 2
    return renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange) == 0


def read_part(path: Path, columns: Sequence[str] | None = None) -> pa.Table | None:
    """Read a part, or return None where it is absent, damaged or of another schema.

    With `columns` nothing else is read, and nothing else is known to be undamaged.
    """
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        found, table = file.schema_arrow, file.read(columns)
    except (OSError, ValueError, pa.ArrowException):  # a flipped byte shows as any of these
        return None
    schema = SCHEMAS.get(len(found), SCHEMA)
    version, wanted = ((one.metadata or {}).get(b"deepfd") for one in (found, schema))
    return table if found.equals(schema) and version == wanted else None


def paths(folder: str | Path) -> list[Path]:
    """Return the parts of a manifest, in order.

    Raises:
        UserError: there is none.
    """
    found = sorted(Path(folder).glob("part-*.parquet"))
    if not found:
        raise UserError(
            f"{folder} holds no part-*.parquet; run the stage that writes it (dvc repro)"
        )
    return found


def part(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one part.

    Raises:
        UserError: it is damaged or of another schema version.
    """
    table = read_part(path, columns)
    if table is None:
        raise UserError(
            f"{path} is damaged or not a version {VERSION} manifest part; delete it and run "
            "the stage that writes it again"
        )
    return table


def parts(folder: str | Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Read a manifest part by part, in order: memory is bounded by one part.

    Args:
        folder: the manifest's folder.
        columns: the only ones to read from disk (all by default, pictures too).

    Raises:
        UserError: no part, or a part that is damaged or of another schema version.
    """
    for path in paths(folder):
        yield part(path, columns)


def read(folder: str | Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a manifest in the order of its parts.

    Args:
        folder: the manifest's folder.
        columns: the columns to read (all by default; leave out `image` when pixels are not needed).

    Raises:
        UserError: see `parts`.
    """
    tables = (table.select(list(columns)) if columns else table for table in parts(folder))
    return pa.concat_tables(tables).to_pandas()


def decode(table: pa.Table, out: np.ndarray, places: np.ndarray) -> None:
    """Decode the pictures of a part, row i to `out[places[i]]`.

    Args:
        table: has the column `image`.
        out: uint8 (N, H, W, C).
        places: int (rows,).

    Raises:
        UserError: a picture of another shape.
    """
    cells = table["image"].combine_chunks()
    coded = cells.field("bytes").to_pylist()
    for row, (place, data) in enumerate(zip(places, coded, strict=True)):
        one = images.decode_png(data)
        if one.shape != out.shape[1:]:
            raise UserError(
                f"{cells[row]['path']} is {one.shape}, height, width and channels; expected "
                f"{out.shape[1:]}, as params.yaml says: run dvc repro"
            )
        out[place] = one


def pixels(frame: pd.DataFrame) -> np.ndarray:
    """Decode the pictures of a manifest frame to uint8 (N, H, W, C)."""
    return np.stack([images.decode_png(cell["bytes"]) for cell in frame["image"]])
