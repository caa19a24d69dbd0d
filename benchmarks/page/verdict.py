"""The first words of the report: which method catches unseen generators best, and how surely.

Every claim of a difference stands on `benchmarks.comparisons`; `cells` is, as in
`benchmarks.page.tables`, the rows of results.parquet that sum up all seeds.
"""

from __future__ import annotations

import pandas as pd

from benchmarks.comparisons import MEAN
from benchmarks.page.tables import (
    bounds,
    listed,
    p_text,
    percent,
    recall_fpr_points,
    signed,
    span,
)
from benchmarks.readings import left_out, ranking
from pipeline.params import Params

SIGNIFICANT = 0.05


def oriented(comparisons: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return the comparisons of one method: `difference` is its own minus the other's."""
    swapped = {"a": "b", "b": "a", "value_a": "value_b", "value_b": "value_a"}
    turned = comparisons[comparisons["b"] == method]
    bounds = {"difference": -turned["difference"], "low": -turned["high"], "high": -turned["low"]}
    turned = turned.assign(**bounds).rename(columns=swapped)
    return pd.concat([comparisons[comparisons["a"] == method], turned])


def _against_others(best: str, order: pd.DataFrame, comparisons: pd.DataFrame) -> list[str]:
    """Say by how much `best` leads, and whom it is not told apart from."""
    others = [str(m) for m in order.index[order["keeps"] == order.loc[best, "keeps"]] if m != best]
    rows = oriented(comparisons[comparisons["held_out"] == MEAN], best)
    rows = rows[rows["metric"] == "recall"].set_index("b")
    others = [method for method in others if method in rows.index]
    if not others:
        return []
    row = rows.loc[others[0]]
    points, low, high = (signed(100 * row[k], 1) for k in ("difference", "low", "high"))
    told, p = row["p_corrected"] < SIGNIFICANT, p_text(row["p_corrected"])
    if told:
        weight = f"holds for these generators ({p}, corrected for {row['comparisons']} comparisons)"
    elif row["low"] > 0:
        weight = f"is not enough among {row['comparisons']} comparisons ({p}, corrected)"
    else:
        weight = f"does not decide between the two ({p}, corrected)"
    line = (
        f"The next, {others[0]}, catches {percent(row['value_b'])}: a difference of {points} "
        f"points ({low} to {high}; paired, 95 %) that {weight}."
    )
    alike = [m for m in others[1:] if rows.loc[m, "p_corrected"] >= SIGNIFICANT]
    if alike:
        line += f" {'It is not' if told else 'Nor is it'} told apart from {listed(alike)}."
    return [line]


def verdict(cells: pd.DataFrame, params: Params, comparisons: pd.DataFrame) -> list[str]:
    """Say which method catches unseen generators best, by how much, and what speaks against it."""
    order = ranking(cells, params)
    lacking = [str(method) for method in order.index[order["recall"].isna()]]
    order = order[order["recall"].notna()]
    if order.empty:
        return ["No method has a result on every held-out generator: there is no verdict yet."]
    best, target = str(order.index[0]), params.matrix.threshold.fpr
    first = order.iloc[0]
    clean = left_out(cells)
    mine = clean[clean["method"] == best].set_index("held_out").loc[list(params.train_generators)]
    worst, top = mine["recall"].idxmin(), mine["recall"].idxmax()
    lines = [
        f"{best} catches {percent(first['recall'])} of the fakes of generators it never saw "
        f"(mean over {len(mine)} held-out generators, {span(mine['n_fake'])} fakes each), and "
        f"calls {percent(first['fpr'])} of {span(mine['n_real'])} test photographs fake."
    ]
    lines += _against_others(best, order, comparisons)
    lines.append(
        f"It depends on the generator: {percent(mine.loc[worst, 'recall'])} of those of {worst} "
        f"({bounds(mine.loc[worst], 'recall')}), {percent(mine.loc[top, 'recall'])} of those of "
        f"{top} ({bounds(mine.loc[top], 'recall')}); 95 % intervals."
    )
    loud = [str(method) for method in order.index[~order["keeps"]] if method != best]
    if not first["keeps"]:
        lines.append(
            f"No method keeps to the {percent(target)} of false positives that thresholds were set "
            "for: read no recall without the FPR beside it."
        )
    elif loud:
        lines.append(
            f"{listed(loud)} cannot win: more photographs are called fake than the "
            f"{percent(target)} that the threshold was set for."
        )
    if lacking:
        lines.append(f"Not ranked, since a result is missing: {listed(lacking)}.")
    points = recall_fpr_points(cells, params)
    others = points[(points["method"] == best) & (points["collection"] != "")]
    if not any(points["collection"] != ""):
        lines.append(
            "No collection of photographs is left out of training or for testing only: how many "
            "photographs of another origin would be called fake is not measured."
        )
    elif len(others):
        rates = listed([f"{percent(r.fpr)} of {r.collection}" for r in others.itertuples()])
        learnt = others["fpr"].max() > 2 * max(target, first["fpr"])
        more = ", far more than of those in training: it knows a collection, not only the making"
        lines.append(
            f"Of photographs of collections it never saw it calls {rates} fake"
            f"{more if learnt else ''}."
        )
    return lines
