"""What `deepfd detect` writes of a picture: a record, a line, a row of a table, a heat map."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deepfd import pictures
from deepfd.localise import overlay
from deepfd.predict import Item, Prediction, Predictor
from pipeline.errors import UserError
from pipeline.images import encode_png
from pipeline.manifest import write_atomic

WORDS = {"fake": "looks fake", "no sign": "no sign of a fake found"}


def printable(text: str) -> str:
    r"""Return text for one line of a terminal: `\n`, other controls and stray bytes spelt out."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def named(path: object) -> str:
    """Return a path, or words that name one, in UTF-8; bytes that are none are spelt out."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def record(path: Path, predictor: Predictor, item: Item, found: Prediction) -> dict[str, Any]:
    """Return all that is said of a picture, JSON values."""
    return {
        "picture": named(path),
        "verdict": found.verdict,
        "p_fake": found.probability,
        "threshold": found.threshold,
        "rule": found.rule,
        "calibrated": predictor.threshold.calibration is not None,
        "score": found.score,
        "score_threshold": predictor.threshold.score,
        "model": predictor.name,
        "width": item.size[0],
        "height": item.size[1],
        "format": item.format,
        "mode": item.mode,
        "judged": found.how,
        "box": list(found.box),
        "faces": [{"box": list(face.box), "p_fake": face.probability} for face in found.faces],
        "notes": list(found.notes),
    }


def line(row: dict[str, Any]) -> str:
    """Say a record in one line."""
    text = (
        f"{printable(row['picture'])}: {WORDS[row['verdict']]} (P(fake) {row['p_fake']:.3f}, "
        f"called fake from {row['threshold']:.3f}, rule {row['rule']})"
    )
    if len(row["faces"]) > 1:
        text += f", the most suspicious of {len(row['faces'])} faces"
    return f"{text}, map in {printable(row['map'])}" if "map" in row else text


def _schema() -> pa.Schema:
    box = pa.list_(pa.int32(), 4)
    text = ("picture", "error", "verdict", "rule", "model", "format", "mode", "judged", "map")
    numbers = ("p_fake", "threshold", "score", "score_threshold")
    return pa.schema(
        [
            *((name, pa.string()) for name in text),
            *((name, pa.float64()) for name in numbers),
            ("calibrated", pa.bool_()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("box", box),
            ("faces", pa.list_(pa.struct([("box", box), ("p_fake", pa.float64())]))),
            ("notes", pa.list_(pa.string())),
        ]
    )


class Table:
    """A Parquet file that grows by row groups and is there once it is whole."""

    def __init__(self, path: Path, batch: int) -> None:
        self.path, self.batch = path, batch
        self.temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self.schema = _schema()
        self.rows: list[dict[str, Any]] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.writer = pq.ParquetWriter(self.temporary, self.schema, compression="zstd")
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror or error}") from None

    def add(self, row: dict[str, Any]) -> None:
        """Add one record."""
        self.rows.append(row)
        if len(self.rows) >= self.batch:
            self._write()

    def _write(self) -> None:
        self.writer.write_table(pa.Table.from_pylist(self.rows, self.schema))
        self.rows = []

    def __enter__(self) -> Table:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None and self.rows:
            self._write()
        self.writer.close()
        if kind is None:
            self.temporary.replace(self.path)
        else:
            self.temporary.unlink(missing_ok=True)


def write_map(path: Path, found: Prediction, target: Path) -> None:
    """Write the heat map of a picture over the part that was judged, at that part's size.

    Raises:
        UserError: it cannot be written.
    """
    # Decoded once more, so that no batch of whole pictures has to be held.
    part = pictures.read(path).image.crop(found.box)
    try:
        write_atomic(target, encode_png(np.asarray(overlay(part, found.map))))
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror or error}") from None
