"""From per-image scores to results.parquet: the leave-one-out matrix, and who is better than whom.

`python -m benchmarks.matrix` reads scores/ for every method and fold that params.yaml names, and
writes benchmarks/results.parquet, benchmarks/comparisons.parquet (see `benchmarks.comparisons`),
benchmarks/metrics.json (`dvc metrics show`) and benchmarks/plots/*.csv (`dvc plots show`). Nothing
is fitted, nothing is read from a folder listing.

results.parquet has one row per method, held-out, source tested on (a generator, or a collection of
photographs, `real:<name>`), perturbation and seed, and one more whose `seed` is -1: the mean over
the seeds. Every number has its interval (`benchmarks.intervals`). A method that draws nothing is
fitted once: `seeds` says how many fits a row sums up. `fold` is the held-out of the scores that a
row is made of: for a family of one generator that of the generator, which is fitted once.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from benchmarks import scores as scores_files
from benchmarks.cells import Scored, measure
from benchmarks.comparisons import COMPARISONS, compare
from benchmarks.comparisons import SCHEMA as COMPARISONS_SCHEMA
from benchmarks.methods import load_method
from benchmarks.readings import RESULTS, RESULTS_SCHEMA, left_out, tested_only, unseen, whole, worst
from benchmarks.resample import Draws
from benchmarks.scores import CLEAN, TEST, VALID
from pipeline.errors import one_line
from pipeline.forked import mapped
from pipeline.manifest import REAL, is_real, write_atomic, write_table
from pipeline.params import Params
from pipeline.params import load as load_params

HEADLINES = Path("benchmarks/metrics.json")
PLOTS = Path("benchmarks/plots")
# Fits that differ in their seed alone.
FIT_KEYS = ["method", "held_out"]
# From so many folds of methods on they are measured by a process for each core.
MANY = 8


def build(params: Params, scores: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Build the rows of results.parquet and of comparisons.parquet from per-image scores.

    Args:
        params: the checked params.yaml.
        scores: the columns of `benchmarks.scores.SCHEMA`.

    Raises:
        UserError: see `benchmarks.cells.Scored`.
    """
    draws = Draws(params.matrix.bootstrap, params.seed)
    groups = list(scores.groupby(FIT_KEYS, sort=False, observed=True))

    def one(number: int) -> tuple[list[dict[str, Any]], dict[Any, Any]]:
        keys, same = groups[number]
        return _rows(params, *keys, same, draws)

    rows, found = [], {}
    for made, measured in mapped(one, len(groups), "matrix", "folds", MANY):
        rows += made
        found |= measured
    results = pa.Table.from_pylist(rows, RESULTS_SCHEMA).to_pandas()
    return results, compare(params, found)


def _rows(
    params: Params, method: str, fold: str, same: pd.DataFrame, draws: Draws
) -> tuple[list[dict[str, Any]], dict[Any, Any]]:
    """Measure what a method says with one fold: rows, and by cell what is to be compared."""
    trained = params.training_generators(fold)
    is_fixed = load_method(params.methods[method].method).deterministic
    valid = dict(list(same[same["split"] == VALID].groupby("seed")))
    made, found = [], {}
    tested = same[same["split"] == TEST].groupby("perturbation", sort=False, observed=True)
    for perturbation, test in tested:
        fits = [
            Scored(part, valid.get(seed, part[:0]), draws) for seed, part in test.groupby("seed")
        ]
        # Rows in the order of params.yaml, then the collections.
        sources = [name for name in params.generators if name in fits[0].sources]
        sources += [name for name in fits[0].sources if is_real(name)]
        for name in sources:
            measured_rows, measured, sizes = measure(fits, name, is_fixed)
            seen = name in (fits[0].trained if is_real(name) else trained)
            about = {
                "method": method,
                "perturbation": perturbation,
                "generator": name,
                "fold": fold,
                "family": REAL if is_real(name) else params.generators[name].family,
                "seen": seen,
                "round": params.round,
                **{k: test[k].iloc[0] for k in ("n_train", "threshold_rule", "code", "data")},
            }
            made += [about | row for row in measured_rows]
            if perturbation == CLEAN and not seen:
                found[method, fold, name] = measured, sizes
    # A family of one generator is left out where that is.
    alike = (name for name in params.family_held_outs() if params.fold_of(name) == fold)
    held_outs = dict.fromkeys((fold, *alike))
    return [row | {"held_out": held_out} for held_out in held_outs for row in made], found


def headlines(results: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Sum each method up on both sides: fakes of generators, photographs of collections, unseen.

    Returns:
        method -> means and the worst over generators that were left out (`recall_mean`,
        `recall_worst`, `auc_mean`, `auc_worst`, `fpr_mean`), and, where there are such,
        `recall_tested_only`, the mean over generators that no fit was trained on, and
        `fpr_unseen_worst`, the highest rate of a collection that the fit had not seen.
    """
    cells = whole(results)
    out = {
        str(method): {
            "recall_mean": float(part["recall"].mean()),
            "recall_worst": float(part["recall"].min()),
            "auc_mean": float(part["auc"].mean()),
            "auc_worst": float(part["auc"].min()),
            "fpr_mean": float(part["fpr"].mean()),
        }
        for method, part in left_out(cells).groupby("method", sort=False)
    }
    for method, part in tested_only(cells).groupby("method", sort=False):
        out[str(method)]["recall_tested_only"] = float(part["recall"].mean())
    for method, rate in worst(unseen(cells, "collections"), "fpr")["fpr"].items():
        out[str(method)]["fpr_unseen_worst"] = float(rate)
    return out


def plot_table(results: pd.DataFrame) -> pd.DataFrame:
    """Make the rows of the DVC plot: recall and AUC of each method on each held-out generator."""
    columns = ["method", "held_out", "recall", "auc"]
    table = left_out(whole(results))[columns].reset_index(drop=True)
    # One bar each: DVC's templates have one axis for names.
    table.insert(0, "cell", table["method"] + " on " + table["held_out"])
    return table


@one_line
def main() -> None:
    """Write results.parquet, metrics.json and the plots' data."""
    params = load_params()
    results, compared = build(params, scores_files.read(params))
    write_table(RESULTS, pa.Table.from_pandas(results, RESULTS_SCHEMA, preserve_index=False))
    table = pa.Table.from_pandas(compared, COMPARISONS_SCHEMA, preserve_index=False)
    write_table(COMPARISONS, table)
    write_atomic(HEADLINES, (json.dumps(headlines(results), indent=1) + "\n").encode())
    text = io.StringIO()
    plot_table(results).to_csv(text, index=False)
    write_atomic(PLOTS / "held_out.csv", text.getvalue().encode())
    print(
        f"matrix: {len(results)} rows ({len(params.methods)} methods, {len(params.folds())} folds) "
        f"in {RESULTS}",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
