"""How far the results of this run are from the kept ones.

Floats differ between machines, and a training carries a difference on: a learned method's rates
may lie a few points apart, while a method that draws nothing gives almost the same everywhere. What
is judged are the rates that the documents show, of rows that sum up all seeds; other metrics and
single seeds are printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.localisation import over_all
from benchmarks.metrics import METRICS
from benchmarks.publish.artefact import Kept
from benchmarks.scores import ALL_SEEDS
from pipeline.params import Params

KEYS = ["method", "held_out", "generator", "perturbation", "seed"]
JUDGED = ("recall", "fpr", "auc")
LEARNED, FIXED = "learned methods", "methods that draw nothing"
# What says which code and which files, not what came out.
DIGESTS = ("code", "data")
TOLERANCE = {LEARNED: 0.05, FIXED: 0.001}


@dataclass(frozen=True)
class Largest:
    """The largest difference of a metric.

    Attributes:
        metric: its name.
        kind: `LEARNED` or `FIXED`.
        judged: whether it decides.
        difference: absolute; infinite where only one of the two has a value; NaN without a row.
        here: the value in this run.
        kept: the value that is kept.
        where: method, held-out, generator and perturbation.
    """

    metric: str
    kind: str
    judged: bool
    difference: float
    here: float = float("nan")
    kept: float = float("nan")
    where: str = ""

    def line(self) -> str:
        """Write it as a line."""
        mark = "" if self.judged else " (not judged)"
        return (
            f"  {self.metric:20} {self.difference:.4f}  {self.here:.4f} here, {self.kept:.4f} "
            f"kept: {self.where}{mark}"
        )


def differences(here: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """Return the absolute differences of every metric, by row that both have.

    Returns:
        indexed by `KEYS`; a column per metric, 0 where neither has a value and infinite where one
        alone has, and `fixed`, whether the method draws nothing.
    """
    a, b = here.set_index(KEYS), kept.set_index(KEYS)
    both = b.index[b.index.isin(a.index)]
    one, other = a.loc[both, list(METRICS)], b.loc[both, list(METRICS)]
    gap = (one - other).abs().where(one.notna() == other.notna(), np.inf)
    gap = gap.where(one.notna() | other.notna(), 0.0)
    return gap.assign(fixed=b.loc[both, "training_variance"] == "none")


def alone(a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    """Name the rows that `a` has and `b` has not."""
    missing = a.set_index(KEYS).index.difference(b.set_index(KEYS).index, sort=False)
    return [", ".join(map(str, key)) for key in missing]


def largest(here: pd.DataFrame, kept: pd.DataFrame) -> list[Largest]:
    """Find the largest difference of each metric, apart for what draws and what does not."""
    gaps = differences(here, kept)
    a, b = here.set_index(KEYS), kept.set_index(KEYS)
    found = []
    for kind in (LEARNED, FIXED):
        mine = gaps[gaps["fixed"] == (kind == FIXED)]
        sums = mine[mine.index.get_level_values("seed") == ALL_SEEDS]
        for metric in METRICS:
            if sums.empty:
                found.append(Largest(metric, kind, metric in JUDGED, float("nan")))
                continue
            key: Any = sums[metric].idxmax()
            found.append(
                Largest(
                    metric, kind, metric in JUDGED, float(sums.loc[key, metric]),
                    float(a.loc[key, metric]), float(b.loc[key, metric]),
                    f"{key[0]}, {key[1]} held out, on {key[2]}, perturbation {key[3]}",
                )
            )  # fmt: skip
    return found


def largest_of_map(here: pd.DataFrame, kept: pd.DataFrame) -> Largest:
    """Find the largest difference of the map's pixel AUC (localisation.parquet).

    Args:
        here: rows of this run.
        kept: those that are kept. Compared are the rows over all regions and seams.
    """
    keys = ["held_out", "generator", "composite", "map"]
    one, other = (
        over_all(rows).set_index(keys)["pixel_auc"].rename(name)
        for name, rows in (("here", here), ("kept", kept))
    )
    both = pd.concat([one, other], axis=1)
    gaps = (both["here"] - both["kept"]).abs().fillna(float("inf"))
    key: Any = gaps.idxmax()
    where = f"{key[0]} held out, {key[2].replace('_', ' ')} of {key[1] or 'photographs'}, {key[3]}"
    return Largest("pixel_auc", LEARNED, True, float(gaps[key]), *map(float, both.loc[key]), where)


def _others(here: pd.DataFrame, kept: pd.DataFrame, params: Params, made: Kept) -> list[str]:
    """Say what else is not the same: values of params.yaml, images, code."""
    lines = []
    # Value by value: the kept digest is of the options that there were then, too.
    one, other = (each.model_dump(mode="json") for each in (params, made.params))
    if odd := [key for key in one if one[key] != other[key]]:
        lines.append(f"params.yaml is another than the kept one: {', '.join(odd)}")
    if set(here["data"]) != set(kept["data"]):
        lines.append("the images are not the same to the bit")
    codes = (dict(each.groupby("method")["code"].first()) for each in (here, kept))
    one, other = codes
    if odd := [method for method in one if method in other and one[method] != other[method]]:
        lines.append(f"other code or libraries fitted {', '.join(odd)}")
    return lines


def same(here: pd.DataFrame, before: pd.DataFrame) -> list[str]:
    """Compare two runs to the bit, as before and after code was moved.

    Args:
        here: rows of this run's results.parquet.
        before: those of the other; their order counts.

    Returns:
        A line for each difference, none if all but `DIGESTS` is equal.
    """
    lines = [f"rows of the other alone: {row}" for row in alone(before, here)]
    lines += [f"rows of this run alone: {row}" for row in alone(here, before)]
    if not lines and list(here[KEYS].itertuples()) != list(before[KEYS].itertuples()):
        lines.append("the rows are in another order")
    if lines:
        return lines
    for column in here.columns.difference([*KEYS, *DIGESTS], sort=False):
        one, other = here[column], before[column]
        odd = ~((one == other) | (one.isna() & other.isna()))
        if odd.any():
            first = ", ".join(map(str, here.loc[odd, KEYS].iloc[0]))
            lines.append(
                f"{column} differs in {odd.sum()} rows: {one[odd].iloc[0]} here, "
                f"{other[odd].iloc[0]} there: {first}"
            )
    return lines


def report(
    here: pd.DataFrame,
    params: Params,
    made: Kept,
    tolerance: dict[str, float] | None = None,
    localisation: pd.DataFrame | None = None,
) -> tuple[str, bool]:
    """Compare, and say whether all is within the tolerance.

    Args:
        here: rows of this run's results.parquet.
        params: this run's, without places (`keep.portable_params`).
        made: what is kept.
        tolerance: by kind of method; `TOLERANCE` by default.
        localisation: rows of this run's localisation.parquet, None if it made none.
    """
    limits = TOLERANCE | (tolerance or {})
    found = largest(here, made.results)
    lines = [f"compared with {made.name}, commit {made.provenance['commit'][:12]}"]
    lines += _others(here, made.results, params, made)
    holds = True
    gaps = differences(here, made.results)
    for kind in (LEARNED, FIXED):
        lines.append(f"{kind}, all seeds together, largest difference (tolerance {limits[kind]}):")
        mine = [each for each in found if each.kind == kind]
        if all(np.isnan(each.difference) for each in mine):
            lines.append("  no row that both have")
            continue
        lines += [each.line() for each in sorted(mine, key=lambda each: not each.judged)]
        holds &= not any(each.judged and each.difference > limits[kind] for each in mine)
        single = gaps[(gaps["fixed"] == (kind == FIXED))]
        single = single[single.index.get_level_values("seed") != ALL_SEEDS][list(JUDGED)]
        if len(single):
            values = ", ".join(f"{metric} {single[metric].max():.4f}" for metric in JUDGED)
            lines.append(f"  single seeds (not judged): {values}")
    if localisation is not None and made.localisation is not None:
        place = largest_of_map(localisation, made.localisation)
        lines += [f"where the fakes are (tolerance {limits[LEARNED]}):", place.line()]
        holds &= place.difference <= limits[LEARNED]
    for title, rows in (
        ("kept, and not here", alone(made.results, here)),
        ("here, and not kept", alone(here, made.results)),
    ):
        holds &= not rows
        more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
        lines.append(
            f"rows {title}: {len(rows)}" + (f" ({'; '.join(rows[:5])}{more})" * bool(rows))
        )
    judged = [each for each in found if each.judged and not np.isnan(each.difference)]
    if judged:
        top = max(judged, key=lambda each: each.difference)
        lines.append(f"largest of {', '.join(JUDGED)}: {top.difference:.4f} ({top.where})")
    lines.append("within the tolerance" if holds else "BEYOND the tolerance")
    return "\n".join(lines), holds
