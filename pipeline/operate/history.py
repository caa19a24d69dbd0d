"""Stage `history`: the matrix of every round of growth, in one table.

Reads params.yaml and benchmarks/results.parquet, writes benchmarks/history.parquet: one row per
round, method, held-out generator and seed (-1: the mean over the seeds). The rows of the round in
hand take the place of those it had, so a round that is done again after a kill is there once.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import readings
from benchmarks.readings import RESULTS
from pipeline import manifest, params
from pipeline.errors import UserError, one_line
from pipeline.params import Params

HISTORY = Path("benchmarks/history.parquet")
FOLLOWED = ("recall", "recall_low", "recall_high", "fpr", "auc")

SCHEMA = pa.schema(
    [
        ("round", pa.int64()),
        ("method", pa.string()),
        ("held_out", pa.string()),
        ("seed", pa.int64()),
        ("images", pa.int64()),  # of all generators together, as params.yaml asked
        ("images_by_generator", pa.string()),  # JSON: name -> images
        ("n_train", pa.int64()),
        *((metric, pa.float64()) for metric in FOLLOWED),
        ("code", pa.string()),
        ("data", pa.string()),
        ("results", pa.string()),  # sha256 of results.parquet
    ],
    metadata={b"deepfd": json.dumps({"schema": "history", "version": 1}).encode()},
)


def read(path: Path = HISTORY) -> pd.DataFrame:
    """Read the history; without a file it has no rows.

    Raises:
        UserError: the file is damaged or of another schema.
    """
    if not path.exists():
        return SCHEMA.empty_table().to_pandas()
    try:
        table = pq.ParquetFile(path, page_checksum_verification=True).read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}); restore it: git checkout {path}") from None
    if not table.schema.equals(SCHEMA):
        raise UserError(f"{path} has columns {table.column_names}; expected {SCHEMA.names}")
    return table.to_pandas()


def rows_of(run: Params, results: pd.DataFrame, digest: str) -> pd.DataFrame:
    """Make the rows of the round in hand: each method on the generator it never saw.

    Args:
        run: the params that `results` was made with.
        results: results.parquet.
        digest: its sha256.

    Raises:
        UserError: `results` is of another round.
    """
    if found := set(results["round"]) - {run.round}:
        raise UserError(
            f"{RESULTS} is of round {sorted(found)[0]}, params.yaml of {run.round}; run dvc repro"
        )
    images = {name: generator.images for name, generator in run.generators.items()}
    cells = readings.left_out(results).assign(
        images=sum(images.values()), images_by_generator=json.dumps(images), results=digest
    )
    return cells[SCHEMA.names].reset_index(drop=True)


def write(rows: pd.DataFrame, path: Path = HISTORY) -> None:
    """Put the rows of a round in the place of those that the round had, atomically."""
    old = read(path)
    kept = old[~old["round"].isin(rows["round"])]
    whole = pd.concat([kept, rows], ignore_index=True) if len(kept) else rows
    whole = whole.sort_values("round", kind="stable")
    manifest.write_table(path, pa.Table.from_pandas(whole, SCHEMA, preserve_index=False))


def worst_recall(history: pd.DataFrame) -> pd.Series:
    """Worst held-out recall of each round's best method, means over seeds, by round."""
    cells = history.groupby(["round", "method", "held_out"])["recall"].mean()
    return cells.groupby(["round", "method"]).min().groupby("round").max()


def stalled(history: pd.DataFrame, rounds: int) -> bool:
    """Whether the last `rounds` rounds brought no better worst recall than those before them."""
    worst = worst_recall(history)
    if len(worst) <= rounds:
        return False
    return bool(worst.iloc[-rounds:].max() <= worst.iloc[:-rounds].max())


@one_line
def main() -> None:
    """Add the round in hand to the history."""
    run = params.load()
    try:
        data = RESULTS.read_bytes()
        results = pq.read_table(io.BytesIO(data)).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{RESULTS} cannot be read ({error}); run dvc repro matrix") from None
    rows = rows_of(run, results, hashlib.sha256(data).hexdigest())
    write(rows)
    print(f"history: round {run.round}, {len(rows)} rows, in {HISTORY}", file=sys.stderr)


if __name__ == "__main__":
    main()
