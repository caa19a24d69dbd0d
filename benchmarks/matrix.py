"""From per-image scores to results.parquet: the leave-one-generator-out matrix.

`python -m benchmarks.matrix` reads scores/<method>-<held_out>.parquet for every method and held-out
that params.yaml names, and writes benchmarks/results.parquet (one row per method, held-out,
generator tested on, perturbation and seed), benchmarks/metrics.json (`dvc metrics show`) and
benchmarks/plots/*.csv (`dvc plots show`). Nothing is fitted, nothing is read from a folder listing.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from benchmarks.fit import CLEAN, SCHEMA, SCORES, scores_path
from benchmarks.metrics import METRICS, intervals, measure, resample_counts, why_undefined
from pipeline.errors import UserError, one_line
from pipeline.folds import REAL_PREFIX
from pipeline.manifest import REAL, write_atomic, write_table
from pipeline.params import NONE, Params
from pipeline.params import load as load_params

RESULTS = Path("benchmarks/results.parquet")
HEADLINES = Path("benchmarks/metrics.json")
PLOTS = Path("benchmarks/plots")
FIT_KEYS = ["method", "held_out", "seed", "perturbation"]

RESULTS_SCHEMA = pa.schema(
    [
        ("method", pa.string()),
        ("held_out", pa.string()),
        ("generator", pa.string()),
        ("perturbation", pa.string()),
        ("seed", pa.int64()),
        ("family", pa.string()),
        ("seen", pa.bool_()),
        ("round", pa.int64()),
        ("n_real", pa.int64()),
        ("n_fake", pa.int64()),
        ("n_train", pa.int64()),
        ("threshold", pa.float64()),
        ("threshold_rule", pa.string()),
        *((f"{name}{end}", pa.float64()) for name in METRICS for end in ("", "_low", "_high")),
        ("undefined", pa.string()),
        ("code", pa.string()),
        ("data", pa.string()),
    ]
)


def read_scores(params: Params, folder: Path = SCORES) -> pd.DataFrame:
    """Read the scores of every fit that `params` names.

    Raises:
        UserError: scores are missing, damaged or of other columns.
    """
    frames = []
    for method in params.methods:
        for held_out in params.held_outs():
            path = scores_path(method, held_out, folder)
            if not path.is_file():
                raise UserError(
                    f"{path} not found; expected the scores of {method} with {held_out} held out: "
                    "run dvc repro"
                )
            try:
                table = pq.read_table(path)
            except (pa.ArrowInvalid, OSError) as error:
                raise UserError(f"{path} is damaged ({error}); delete it, run dvc repro") from None
            if table.column_names != SCHEMA.names:
                raise UserError(
                    f"{path} has columns {table.column_names}; expected {SCHEMA.names}: delete it, "
                    "run dvc repro"
                )
            frames.append(table)
    return pa.concat_tables(frames).unify_dictionaries().to_pandas()


def cells(params: Params, scores: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the rows of results.parquet, in the order of params.yaml.

    The cell of a generator compares its test fakes with the test photographs; the cell of another
    collection (`real:<name>`) has photographs alone, and so a false-positive rate alone.
    """
    draws: dict[tuple[str, int], np.ndarray] = {}

    def counts(name: str, n: int) -> np.ndarray:
        if (name, n) not in draws:
            draws[name, n] = resample_counts(n, params.matrix.bootstrap, params.seed, name)
        return draws[name, n]

    for _, fit in scores.groupby(FIT_KEYS, sort=False, observed=True):
        # The order of the images decides which one a draw means: their ids, whatever the file's.
        fit = fit.sort_values("image_id", kind="stable")
        groups = dict(list(fit.groupby("generator", sort=False, observed=True)))
        trained = params.training_generators(str(fit["held_out"].iloc[0]))
        for name in (*params.generators, *(REAL_PREFIX + other for other in params.other_reals)):
            parts = [(name, groups.get(name, fit[:0]))]
            if not name.startswith(REAL_PREFIX):
                parts.insert(0, (REAL, groups[REAL]))
            images = pd.concat([part for _, part in parts])
            labels, values = images["label"].to_numpy(), images["score"].to_numpy()
            first = fit.iloc[0]
            threshold = float(first["threshold"])
            point = measure(labels, values, threshold)
            drawn = np.hstack([counts(part_name, len(part)) for part_name, part in parts])
            bounds = intervals(labels, values, threshold, drawn)
            row = {
                **{key: first[key] for key in FIT_KEYS},
                "generator": name,
                "family": params.generators[name].family if name in params.generators else REAL,
                "seen": name in trained,
                "round": params.round,
                "n_real": int((labels == 0).sum()),
                "n_fake": int((labels == 1).sum()),
                **{k: first[k] for k in ("n_train", "threshold_rule", "code", "data")},
                "threshold": threshold,
                "undefined": why_undefined(labels, point),
            }
            for metric in METRICS:
                row[metric] = float(point[metric][0])
                defined = not np.isnan(row[metric])
                row[f"{metric}_low"], row[f"{metric}_high"] = (
                    bounds[metric] if defined else (np.nan, np.nan)
                )
            yield row


def build(params: Params, scores: pd.DataFrame) -> pd.DataFrame:
    """Build results.parquet's rows from per-image scores.

    Args:
        params: the checked params.yaml.
        scores: the columns of `benchmarks.fit.SCHEMA`.

    Raises:
        UserError: a fit without photographs to compare with.
    """
    total = len(scores[FIT_KEYS].drop_duplicates()) * (
        len(params.generators) + len(params.other_reals)
    )
    rows = tqdm(cells(params, scores), total=total, desc="matrix", unit="cell", mininterval=2)
    return pa.Table.from_pylist(list(rows), RESULTS_SCHEMA).to_pandas()


def held_out_cells(results: pd.DataFrame) -> pd.DataFrame:
    """Return the matrix proper: each method on the generator that it never saw, clean images."""
    return results[
        (results["held_out"] == results["generator"]) & (results["perturbation"] == CLEAN)
    ]


def headlines(results: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Sum each method up: mean and worst over held-out generators, of means over seeds."""
    clean = held_out_cells(results)
    cell = clean.groupby(["method", "held_out"], sort=False)[["recall", "fpr", "auc"]].mean()
    return {
        str(method): {
            "recall_mean": float(part["recall"].mean()),
            "recall_worst": float(part["recall"].min()),
            "auc_mean": float(part["auc"].mean()),
            "auc_worst": float(part["auc"].min()),
            "fpr_mean": float(part["fpr"].mean()),
        }
        for method, part in cell.groupby(level="method", sort=False)
    }


def plot_table(results: pd.DataFrame) -> pd.DataFrame:
    """Make the rows of the DVC plot: recall and AUC of each method on each held-out generator."""
    clean = held_out_cells(results)
    table = clean.groupby(["method", "held_out"], sort=False)[["recall", "auc"]].mean()
    table = table.reset_index()
    # One bar each: DVC's templates have one axis for names.
    table.insert(0, "cell", table["method"] + " on " + table["held_out"])
    return table


@one_line
def main() -> None:
    """Write results.parquet, metrics.json and the plots' data."""
    params = load_params()
    results = build(params, read_scores(params))
    write_table(RESULTS, pa.Table.from_pandas(results, RESULTS_SCHEMA, preserve_index=False))
    write_atomic(HEADLINES, (json.dumps(headlines(results), indent=1) + "\n").encode())
    text = io.StringIO()
    plot_table(results).to_csv(text, index=False)
    write_atomic(PLOTS / "held_out.csv", text.getvalue().encode())
    print(
        f"matrix: {len(results)} rows ({len(params.methods)} methods, "
        f"{len(params.held_outs())} held-outs of which one is {NONE}) in {RESULTS}",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
