"""Is one method better than another? Paired bootstrap on the same images and the same seeds.

benchmarks/comparisons.parquet, written by `benchmarks.matrix`, has one row per pair of methods,
held-out and metric. `held_out` is `mean` (the mean over all held-out generators, for every pair),
or, for the pairs that `matrix.compare` of params.yaml names, a generator or a family of several.
`difference` is that of method `a` minus method `b`, both measured on the fakes they never saw and
averaged over seeds; `low` and `high` bound it at 95 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.metrics import METRICS as MEASURED
from benchmarks.metrics import interval
from pipeline.params import Params

MEAN = "mean"
# Higher is better but for `fpr`.
METRICS = ("recall", "fpr", "auc", "tpr_at_fpr_05")
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


@dataclass(frozen=True)
class Measured:
    """What is known of a method on a held-out: each metric and its bootstrap replicates.

    Attributes:
        point: float (metrics,), in the order of `benchmarks.metrics.METRICS`.
        table: float (metrics, B); replicate b of any two methods is of the same images and seeds.
    """

    point: np.ndarray
    table: np.ndarray


def average(parts: list[Measured]) -> Measured:
    """Average over held-outs, replicate by replicate."""
    return Measured(
        np.mean([part.point for part in parts], axis=0),
        np.mean([part.table for part in parts], axis=0),
    )


def p_value(difference: float, replicates: np.ndarray) -> float:
    """Two-sided p of no difference, from the bootstrap's standard error: 2 Phi(-|d| / se).

    A share of replicates beyond 0 cannot be smaller than 1 / B, which a correction for many
    comparisons multiplies: with 1000 replicates no pair of ten methods could ever be told apart.

    Args:
        difference: what was measured.
        replicates: float (B,), the difference in each resample.
    """
    from scipy.stats import norm

    error = float(np.std(replicates, ddof=1))
    if error == 0:
        return float(difference == 0)
    return float(2 * norm.sf(abs(difference) / error))


def holm(p: np.ndarray) -> np.ndarray:
    """Correct p values (m,) for their number: Holm 1979, at least as strong as Bonferroni's.

    The i-th smallest (i = 0 ...) is multiplied by m - i; none may fall below one before it.
    """
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    scaled = p[order] * (len(p) - np.arange(len(p)))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return corrected


def _rows(
    pairs: list[tuple[str, str]], found: Mapping[tuple[str, str], Measured], held_outs: list[str]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of some pairs on some held-outs, corrected for their number by metric."""
    for metric in METRICS:
        index = MEASURED.index(metric)
        rows = []
        for a, b in pairs:
            for held_out in held_outs:
                one, other = found[a, held_out], found[b, held_out]
                difference = float(one.point[index] - other.point[index])
                replicates = one.table[index] - other.table[index]
                low, high = interval(replicates)
                rows.append(
                    {
                        "a": a, "b": b, "held_out": held_out, "metric": metric,
                        "value_a": float(one.point[index]), "value_b": float(other.point[index]),
                        "difference": difference, "low": float(low), "high": float(high),
                        "p": p_value(difference, replicates),
                    }
                )  # fmt: skip
        corrected = holm(np.array([row["p"] for row in rows]))
        for row, p in zip(rows, corrected, strict=True):
            yield row | {"p_corrected": float(p), "comparisons": len(rows)}


def compare(params: Params, unseen: Mapping[tuple[str, str, str], Measured]) -> pd.DataFrame:
    """Compare methods; the p values of a metric are corrected for the number of its rows.

    All pairs on the mean are one family of comparisons, the rows of `matrix.compare` another.

    Args:
        params: the checked params.yaml.
        unseen: (method, fold, generator) -> what was measured on a generator left out, on clean
            images.
    """
    found = {}
    every = len(params.train_generators)
    folds = [fold for fold in params.folds() if len(params.training_generators(fold)) < every]
    for method in params.methods:
        for fold in folds:
            parts = [one for (m, f, _), one in unseen.items() if (m, f) == (method, fold)]
            found[method, fold] = average(parts)
        found[method, MEAN] = average([found[method, name] for name in params.train_generators])
    pairs = [pair for pair in params.matrix.compare if set(pair) <= set(params.methods)]
    rows = [
        *_rows(list(combinations(params.methods, 2)), found, [MEAN]),
        *_rows(pairs, found, folds),
    ]
    return pa.Table.from_pylist(rows, SCHEMA).to_pandas()
