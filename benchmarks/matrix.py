"""From per-image scores to results.parquet: the leave-one-out matrix, and who is better than whom.

`python -m benchmarks.matrix` reads scores/ for every method and fold that params.yaml names, and
writes benchmarks/results.parquet, benchmarks/comparisons.parquet (see `benchmarks.comparisons`),
benchmarks/metrics.json (`dvc metrics show`) and benchmarks/plots/*.csv (`dvc plots show`). Nothing
is fitted, nothing is read from a folder listing.

results.parquet has one row per method, held-out, generator tested on, perturbation and seed, and
one more whose `seed` is -1: the mean over the seeds, with an interval over seeds and images. A
method that draws nothing is fitted once: `seeds` says how many fits a row sums up. `held_out` is a
generator, `none` or `family:<name>`, for every family; `fold` is the held-out of the scores that a
row is made of: for a family of one generator that of the generator, which is fitted once.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from benchmarks.comparisons import SCHEMA as COMPARISONS_SCHEMA
from benchmarks.comparisons import Measured, compare
from benchmarks.fit import CLEAN, SCHEMA, SCORES, scores_path
from benchmarks.metrics import (
    METRICS,
    Side,
    combine,
    interval,
    over_seeds,
    replicates,
    resample_counts,
    why_undefined,
)
from pipeline.errors import UserError, one_line
from pipeline.manifest import REAL, is_real, write_atomic, write_table
from pipeline.params import FAMILY_PREFIX, Params
from pipeline.params import load as load_params

RESULTS = Path("benchmarks/results.parquet")
COMPARISONS = Path("benchmarks/comparisons.parquet")
HEADLINES = Path("benchmarks/metrics.json")
PLOTS = Path("benchmarks/plots")
# Fits that differ in their seed alone.
FIT_KEYS = ["method", "held_out", "perturbation"]
# The `seed` of a row that sums up all seeds.
ALL_SEEDS = -1

RESULTS_SCHEMA = pa.schema(
    [
        ("method", pa.string()),
        ("held_out", pa.string()),
        ("generator", pa.string()),
        ("perturbation", pa.string()),
        ("seed", pa.int64()),
        ("seeds", pa.int64()),
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


def read_scores(params: Params, folder: Path = SCORES) -> pd.DataFrame:
    """Read the scores of every fit that `params` names.

    Raises:
        UserError: scores are missing, damaged or of other columns.
    """
    frames = []
    for method in params.methods:
        for held_out in params.folds():
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


class Draws:
    """Bootstrap resamples by name, each drawn once: the same images are drawn alike everywhere."""

    def __init__(self, resamples: int, base: int) -> None:
        self.resamples, self.base = resamples, base
        self._drawn: dict[tuple[int, tuple[str, ...]], np.ndarray] = {}

    def of(self, n: int, *names: str) -> np.ndarray:
        """Return float (n, resamples), see `resample_counts`."""
        key = n, names
        if key not in self._drawn:
            self._drawn[key] = resample_counts(n, self.resamples, self.base, *names)
        return self._drawn[key]

    def of_seeds(self, held_out: str, seeds: int) -> np.ndarray:
        """Return float (seeds, resamples): all methods draw the same seeds of a fold.

        The fits of a fold that have a seed in common have their first weights and the order of
        their images in common too, where the methods allow.
        """
        return self.of(seeds, "seeds", held_out)


class Scored:
    """The scores of one fit: each source's images summed up once, for all the cells they are in."""

    def __init__(self, scores: pd.DataFrame, draws: Draws, photographs: tuple[str, ...]) -> None:
        """Group the scores; `photographs` are the collections that fakes are compared with."""
        # The order of the images decides which one a draw means: their ids, whatever the file's.
        ordered = scores.sort_values("image_id", kind="stable")
        groups = ordered.groupby("generator", observed=True)["score"]
        self.values = {str(name): values.to_numpy() for name, values in groups}
        self.seed, self.threshold = int(scores["seed"].iloc[0]), float(scores["threshold"].iloc[0])
        self.draws = draws
        self.photographs = photographs
        self.real = self.drawn(*photographs)

    def drawn(self, *sources: str) -> Side:
        """Sum the images of a generator, or of collections of photographs, up per resample."""
        values = np.concatenate([self.values[source] for source in sources])
        counts = [self.draws.of(len(self.values[source]), source) for source in sources]
        label = int(not is_real(sources[0]))
        return Side.of(label, values, self.threshold, np.concatenate(counts))

    def once(self, *sources: str) -> Side:
        """Sum them up as they are."""
        source = sources[0]
        values = np.concatenate([self.values[source] for source in sources])
        ones = np.ones((len(values), 1))
        return Side.of(int(not is_real(source)), values, self.threshold, ones)

    def cell(self, generator: str) -> tuple[dict[str, Any], np.ndarray]:
        """Measure the cell of a generator, or of another collection, and its replicates.

        A generator's test fakes are compared with the test photographs; another collection has
        photographs alone, and so a false-positive rate alone.
        """
        if is_real(generator):
            found = combine(None, self.once(generator))
            table = replicates(None, self.drawn(generator))
            n_real, n_fake = len(self.values[generator]), 0
        else:
            found = combine(self.once(generator), self.once(*self.photographs))
            table = replicates(self.drawn(generator), self.real)
            n_real = sum(len(self.values[name]) for name in self.photographs)
            n_fake = len(self.values[generator])
        row = {
            "seed": self.seed,
            "seeds": 1,
            "n_real": n_real,
            "n_fake": n_fake,
            "threshold": self.threshold,
            "undefined": why_undefined(n_fake, found),
            **{name: float(value[0]) for name, value in found.items()},
        }
        return row, table


def _one(values: list[float]) -> float:
    """Return the value that all have, NaN where they differ."""
    return values[0] if len(set(values)) == 1 else float("nan")


def cell(
    fits: list[Scored], generator: str, held_out: str, draws: Draws
) -> tuple[list[dict[str, Any]], Measured]:
    """Measure one cell.

    Args:
        fits: the scores of each seed.
        generator: the generator tested on, or `real:<name>`.
        held_out: names the draw of seeds.
        draws: the resamples.

    Returns:
        A row per seed, then the one that sums them up; and of this one the replicates.
    """
    rows, tables = zip(*(fit.cell(generator) for fit in fits), strict=True)
    whole = {
        **rows[0],
        "seed": ALL_SEEDS,
        "seeds": len(rows),
        # Every seed has its own threshold: no one value stands for several.
        **{k: _one([row[k] for row in rows]) for k in ("threshold", "oracle_threshold")},
        "undefined": "; ".join(dict.fromkeys(r["undefined"] for r in rows if r["undefined"])),
        **{metric: float(np.mean([row[metric] for row in rows])) for metric in METRICS},
    }
    together = over_seeds(np.stack(tables), draws.of_seeds(held_out, len(rows)))
    low, high = interval(np.stack([*tables, together]))
    for index, row in enumerate([*rows, whole]):
        for metric, bottom, top in zip(METRICS, low[index], high[index], strict=True):
            defined = not np.isnan(row[metric])
            row[f"{metric}_low"], row[f"{metric}_high"] = (
                (float(bottom), float(top)) if defined else (np.nan, np.nan)
            )
    return [*rows, whole], Measured(np.array([whole[name] for name in METRICS]), together)


def build(params: Params, scores: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Build the rows of results.parquet and of comparisons.parquet from per-image scores.

    Args:
        params: the checked params.yaml.
        scores: the columns of `benchmarks.fit.SCHEMA`.

    Raises:
        UserError: a fit without photographs to compare with.
    """
    draws = Draws(params.matrix.bootstrap, params.seed)
    generators = (*params.generators, *params.collections)
    rows, unseen = [], {}
    groups = list(scores.groupby(FIT_KEYS, sort=False, observed=True))
    for (method, fold, perturbation), same in tqdm(groups, desc="matrix", unit="fold"):
        photographs = params.training_collections(fold)
        fits = [Scored(scores, draws, photographs) for _, scores in same.groupby("seed")]
        trained = params.training(fold)
        found = []
        for name in generators:
            measured, together = cell(fits, name, fold, draws)
            about = {
                "method": method,
                "perturbation": perturbation,
                "generator": name,
                "fold": fold,
                "family": params.generators[name].family if name in params.generators else REAL,
                "seen": name in trained,
                "round": params.round,
                **{k: same[k].iloc[0] for k in ("n_train", "threshold_rule", "code", "data")},
            }
            found += [about | row for row in measured]
            if perturbation == CLEAN and name in params.train_generators and name not in trained:
                unseen[method, fold, name] = together
        # A family of one generator is left out where that is.
        alike = (name for name in params.family_held_outs() if params.fold_of(name) == fold)
        for held_out in dict.fromkeys((fold, *alike)):
            rows += [row | {"held_out": held_out} for row in found]
    results = pa.Table.from_pylist(rows, RESULTS_SCHEMA).to_pandas()
    return results, compare(params, unseen)


def clean_cells(results: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that sum up all seeds on clean images."""
    return results[(results["seed"] == ALL_SEEDS) & (results["perturbation"] == CLEAN)]


def held_out_cells(results: pd.DataFrame) -> pd.DataFrame:
    """Return the matrix proper: each method on the generator that it never saw, clean images."""
    clean = clean_cells(results)
    fakes = ~clean["generator"].map(is_real)
    return clean[fakes & (clean["held_out"] == clean["generator"])]


def held_out_families(results: pd.DataFrame) -> pd.DataFrame:
    """Return the same by family: each method on every generator of the family it never saw."""
    clean = clean_cells(results)
    return clean[clean["held_out"] == FAMILY_PREFIX + clean["family"]]


def headlines(results: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Sum each method up: mean and worst over held-out generators, of means over seeds."""
    return {
        str(method): {
            "recall_mean": float(part["recall"].mean()),
            "recall_worst": float(part["recall"].min()),
            "auc_mean": float(part["auc"].mean()),
            "auc_worst": float(part["auc"].min()),
            "fpr_mean": float(part["fpr"].mean()),
        }
        for method, part in held_out_cells(results).groupby("method", sort=False)
    }


def plot_table(results: pd.DataFrame) -> pd.DataFrame:
    """Make the rows of the DVC plot: recall and AUC of each method on each held-out generator."""
    columns = ["method", "held_out", "recall", "auc"]
    table = held_out_cells(results)[columns].reset_index(drop=True)
    # One bar each: DVC's templates have one axis for names.
    table.insert(0, "cell", table["method"] + " on " + table["held_out"])
    return table


@one_line
def main() -> None:
    """Write results.parquet, metrics.json and the plots' data."""
    params = load_params()
    results, compared = build(params, read_scores(params))
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
