"""What results.parquet says: which cells are of images never seen, and what sums methods up.

A detector is judged on two sides. Of *fakes*: recall on a generator that was left out of training,
alone or with its whole family. Of *photographs*: the false-positive rate on a collection that was
left out, or is there for testing only. Every reader of results.parquet asks here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.metrics import METRICS
from benchmarks.scores import ALL_SEEDS, CLEAN
from pipeline.errors import UserError
from pipeline.manifest import is_real
from pipeline.params import FAMILY_PREFIX, NONE, Params

RESULTS = Path("benchmarks/results.parquet")
RESULTS_SCHEMA = pa.schema(
    [
        ("method", pa.string()),
        ("held_out", pa.string()),
        ("generator", pa.string()),
        ("perturbation", pa.string()),
        ("seed", pa.int64()),
        ("seeds", pa.int64()),
        ("training_variance", pa.string()),
        ("fold", pa.string()),
        ("family", pa.string()),
        ("seen", pa.bool_()),
        ("round", pa.int64()),
        ("n_real", pa.int64()),
        ("n_fake", pa.int64()),
        ("n_train", pa.int64()),
        ("threshold", pa.float64()),
        ("threshold_rule", pa.string()),
        ("oracle_threshold", pa.float64()),
        *((f"{name}{end}", pa.float64()) for name in METRICS for end in ("", "_low", "_high")),
        ("undefined", pa.string()),
        ("code", pa.string()),
        ("data", pa.string()),
    ]
)

Side = Literal["generators", "families", "collections"]


def read(path: Path = RESULTS) -> pd.DataFrame:
    """Read results.parquet.

    Raises:
        UserError: it is missing, damaged, empty or of other columns.
    """
    if not path.is_file():
        raise UserError(f"{path} not found; run dvc repro matrix")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is damaged ({error}); run dvc repro matrix") from None
    if table.column_names != RESULTS_SCHEMA.names or not len(table):
        raise UserError(
            f"{path} holds {len(table)} rows of columns {table.column_names}; expected rows of "
            f"{RESULTS_SCHEMA.names}: delete it and run dvc repro matrix"
        )
    return table.to_pandas()


def whole(results: pd.DataFrame, perturbation: str = CLEAN) -> pd.DataFrame:
    """Return the rows that sum up all seeds under one perturbation."""
    return results[(results["seed"] == ALL_SEEDS) & (results["perturbation"] == perturbation)]


def left_out(
    rows: pd.DataFrame, side: Side = "generators", perturbation: str = CLEAN
) -> pd.DataFrame:
    """Return the cells of the matrix proper: each method on what its fit left out.

    Args:
        rows: of results.parquet; `method`, `held_out`, `generator`, `perturbation` are enough, and
            `family` for families.
        side: generators by themselves, every generator of a `family:` that was left out, or
            collections of photographs.
        perturbation: of the test images.
    """
    rows = rows[rows["perturbation"] == perturbation]
    if side == "families":
        return rows[rows["held_out"] == FAMILY_PREFIX + rows["family"]]
    real = rows["generator"].map(is_real).astype(bool)
    return rows[(rows["held_out"] == rows["generator"]) & (real == (side == "collections"))]


def tested_only(
    rows: pd.DataFrame, side: Side = "generators", perturbation: str = CLEAN
) -> pd.DataFrame:
    """Return the cells of what no fit was trained on, by the fits that left nothing out."""
    rows = rows[(rows["perturbation"] == perturbation) & (rows["held_out"] == NONE)]
    real = rows["generator"].map(is_real).astype(bool)
    return rows[~rows["seen"].astype(bool) & (real == (side == "collections"))]


def unseen(
    rows: pd.DataFrame, side: Side = "generators", perturbation: str = CLEAN
) -> pd.DataFrame:
    """Return the cells of what a fit never saw: what it left out, and what is for testing only."""
    parts = [left_out(rows, side, perturbation)]
    if side != "families":
        parts.append(tested_only(rows, side, perturbation))
    return pd.concat(parts)


def mean_over(rows: pd.DataFrame, params: Params, metric: str) -> pd.Series:
    """Average a metric over held-out generators, by method; NaN where a generator is missing.

    Args:
        rows: one per method and held-out generator.
        params: the checked params.yaml.
        metric: a column.
    """
    table = rows.pivot_table(index="method", columns="held_out", values=metric, dropna=False)
    names = list(params.train_generators)
    table = table.reindex(index=list(params.methods), columns=names)
    return table.mean(axis=1, skipna=False)


def worst(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the worst cell of each method: the lowest, and of `fpr` the highest."""
    ascending = metric != "fpr"
    ordered = rows[rows[metric].notna()].sort_values(metric, ascending=ascending, kind="stable")
    return ordered.drop_duplicates("method").set_index("method")


def keeps_to_rule(results: pd.DataFrame, params: Params) -> pd.Series:
    """Whether each method's false positives agree with the rate its threshold was set for.

    They do unless even the lower bounds, on average over held-out generators, lie above that rate.
    """
    low = mean_over(left_out(whole(results)), params, "fpr_low")
    return ~(low > params.matrix.threshold.fpr)


def ranking(results: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Sort the methods: those that keep to their false-positive rate first, then by mean recall.

    A method that calls everything fake catches every fake; it must not win. Of those whose recall
    is written alike (in whole percent) the one that accuses fewer photographs comes first.

    Returns:
        `recall`, `auc`, `fpr` (means over held-out generators) and `keeps`, by method.
    """
    cells = left_out(whole(results))
    table = pd.DataFrame({m: mean_over(cells, params, m) for m in ("recall", "auc", "fpr")})
    table["keeps"] = keeps_to_rule(results, params)
    order = table.assign(written=table["recall"].round(2), spared=-table["fpr"])
    by = ["keeps", "written", "spared", "auc"]
    return table.loc[order.sort_values(by, ascending=False, kind="stable").index]
