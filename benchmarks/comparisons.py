"""Is one method better than another? Both are measured on the same images, by the same seeds.

benchmarks/comparisons.parquet, written by `benchmarks.matrix`, has one row per pair of methods,
held-out and metric. `held_out` is `mean` (the mean over all held-out generators, for every pair),
or, for the pairs that `matrix.compare` of params.yaml names, a generator or a family of several.
`difference` is that of method `a` minus method `b`, both measured on the fakes they never saw and
averaged over seeds; `low` and `high` bound it at 95 %, `p` is of the same model (see
`benchmarks.intervals`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.intervals import Estimate, Measured, Sizes, difference
from benchmarks.metrics import METRICS as MEASURED
from pipeline.params import Params

COMPARISONS = Path("benchmarks/comparisons.parquet")
MEAN = "mean"
# Higher is better but for `fpr`.
COMPARED = ("recall", "fpr", "auc", "tpr_at_fpr_05")
SCHEMA = pa.schema(
    [
        ("a", pa.string()),
        ("b", pa.string()),
        ("held_out", pa.string()),
        ("metric", pa.string()),
        ("value_a", pa.float64()),
        ("value_b", pa.float64()),
        ("difference", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("p", pa.float64()),
        ("p_corrected", pa.float64()),
        ("comparisons", pa.int64()),
    ]
)


def holm(p: np.ndarray) -> np.ndarray:
    """Correct p values (m,) for their number: Holm 1979, at least as strong as Bonferroni's.

    The i-th smallest (i = 0 ...) is multiplied by m - i; none may fall below one before it.

    >>> holm(np.array([0.5, 0.01, 0.02])).tolist()
    [0.5, 0.03, 0.04]
    """
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    scaled = p[order] * (len(p) - np.arange(len(p)))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return corrected


Found = Mapping[tuple[str, str, str], tuple[Measured, Sizes]]


@dataclass(frozen=True)
class _OnFold:
    """What is known of a method on all that one fold left out.

    Attributes:
        measured: by each seed, the mean over what was left out.
        sizes: of each of these.
    """

    measured: Measured
    sizes: tuple[Sizes, ...]


def _on_fold(method: str, fold: str, names: Sequence[str], found: Found) -> _OnFold:
    """Average over the generators that a fold left out, which the same fits are tested on."""
    parts, sizes = zip(*(found[method, fold, name] for name in names), strict=True)
    values = np.mean([part.values for part in parts], axis=0)
    tables = np.mean([part.tables for part in parts], axis=0)
    return _OnFold(Measured(values, tables), sizes)


def _difference(a: _OnFold, b: _OnFold) -> Estimate:
    """Estimate a - b; with as many seeds they are the same, and so are first weights and order."""
    if len(a.measured.values) == len(b.measured.values):
        return Estimate.of(a.measured - b.measured)
    return Estimate.of(a.measured) - Estimate.of(b.measured)


def _row(pair: tuple[str, str], held_out: str, folds: list[tuple[_OnFold, _OnFold]]) -> dict:
    """Compare a pair of methods on some folds: every metric."""
    estimate = Estimate.mean([_difference(a, b) for a, b in folds])
    sizes = [one for a, _ in folds for one in a.sizes]
    # Fakes of each fold are others, its photographs the same.
    images = Sizes(
        sum(one.fakes for one in sizes),
        *(min(getattr(one, name) for one in sizes)
          for name in ("photographs", "persons", "valid_persons")),
    )  # fmt: skip
    low, high, p = difference(estimate, images.images(), images.units(), images.freedom())
    values = [np.mean([one.measured.values.mean(axis=0) for one in side], axis=0)
              for side in zip(*folds, strict=True)]  # fmt: skip
    return {
        "pair": pair, "held_out": held_out, "low": low, "high": high, "p": p,
        "value_a": values[0], "value_b": values[1],
    }  # fmt: skip


def _corrected(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a family of comparisons by metric, corrected for their number."""
    for metric in COMPARED:
        index = MEASURED.index(metric)
        corrected = holm(np.array([row["p"][index] for row in rows]))
        for row, p in zip(rows, corrected, strict=True):
            numbers = {k: float(row[k][index]) for k in ("value_a", "value_b", "low", "high", "p")}
            yield {
                "a": row["pair"][0], "b": row["pair"][1], "held_out": row["held_out"],
                "metric": metric, "difference": numbers["value_a"] - numbers["value_b"],
                **numbers, "p_corrected": float(p), "comparisons": len(rows),
            }  # fmt: skip


def compare(params: Params, found: Found) -> pd.DataFrame:
    """Compare methods; the p values of a metric are corrected for the number of its rows.

    All pairs on the mean are one family of comparisons, the rows of `matrix.compare` another.

    Args:
        params: the checked params.yaml.
        found: (method, fold, source) -> what was measured on what the fold never saw, clean images.
    """
    left = {}
    for fold in params.folds():
        trained = params.training_generators(fold)
        names = [name for name in params.train_generators if name not in trained]
        if names:
            left[fold] = names
    on = {(m, fold): _on_fold(m, fold, names, found)
          for m in params.methods for fold, names in left.items()}  # fmt: skip
    pairs = [pair for pair in params.matrix.compare if set(pair) <= set(params.methods)]
    rows = [
        *_corrected(
            [_row((a, b), MEAN, [(on[a, fold], on[b, fold]) for fold in params.train_generators])
             for a, b in combinations(params.methods, 2)]
        ),
        *_corrected(
            [_row((a, b), fold, [(on[a, fold], on[b, fold])]) for a, b in pairs for fold in left]
        ),
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, SCHEMA).to_pandas()
