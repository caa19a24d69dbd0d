"""Tables of the documents, in Markdown: pure readings of what is kept of a profile."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from benchmarks import readings
from benchmarks.comparisons import MEAN
from benchmarks.page import heats, tables
from benchmarks.page.tables import (
    MISSING,
    bounds,
    number,
    p_text,
    percent,
    short,
    signed,
    span,
    with_interval,
)
from benchmarks.page.verdict import oriented
from benchmarks.publish.artefact import Kept

# Of false-positive rates: a thousandth is one photograph of a collection.
DIGITS = 3


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(name: str) -> str:
    """Write a name of params.yaml."""
    return f"`{name}`"


def _bold(texts: list[str], values: Sequence[float], best: float) -> list[str]:
    """Make bold what is written as the best is."""
    shown = number(best)
    return [
        f"**{text}**" if not pd.isna(value) and number(value) == shown else text
        for text, value in zip(texts, values, strict=True)
    ]


def seeds(kept: Kept) -> dict[str, str]:
    """How many fits a number of each method is the mean of."""
    rows = kept.whole.groupby("method", sort=False)["seeds"]
    return {str(method): span(values) for method, values in rows}


def means(kept: Kept) -> pd.DataFrame:
    """Sum methods up over the generators that were left out.

    Returns:
        by method, in the order of `readings.ranking`: `recall`, `auc`, `fpr` (means), `keeps`,
        `fpr_largest`, and `worst`, the lowest recall; NaN where a generator is missing.
    """
    order = readings.ranking(kept.results, kept.params)
    cells = readings.left_out(kept.whole)
    complete = order["recall"].notna()
    order["worst"] = cells.groupby("method")["recall"].min().reindex(order.index).where(complete)
    largest = cells.groupby("method")["fpr"].max()
    order["fpr_largest"] = largest.reindex(order.index).where(complete)
    return order


def worst_cells(kept: Kept, methods: Sequence[str]) -> list[str]:
    """Write the lowest recall of each method, with its interval and generator."""
    lowest = readings.worst(readings.left_out(kept.whole), "recall")
    return [
        f"{with_interval(lowest.loc[[m]], 'recall')} {code(lowest.loc[m, 'generator'])}"
        if m in lowest.index
        else MISSING
        for m in methods
    ]


def collections_unseen(kept: Kept) -> dict[str, pd.DataFrame]:
    """Return the cells of each collection that a fit never saw, by method."""
    cells = readings.unseen(kept.whole, "collections")
    return {
        str(name): rows.set_index("method")
        for name, rows in cells.groupby("generator", sort=False)
    }  # fmt: skip


def rate_with_interval(rows: pd.DataFrame, method: str) -> str:
    """Write a method's false-positive rate with its interval, or X where it has none.

    Args:
        rows: a cell each, by method.
        method: whose.
    """
    if method not in rows.index or pd.isna(rows.loc[method, "fpr"]):
        return MISSING
    return f"{number(rows.loc[method, 'fpr'], DIGITS)} ({bounds(rows.loc[method], 'fpr')})"


def summary(kept: Kept) -> str:
    """One row per method: both sides, means and worst."""
    params, order = kept.params, means(kept)
    methods = [str(method) for method in order.index]
    fits, fair = seeds(kept), order[order["keeps"]]
    columns = {
        "method": [code(m) for m in methods],
        "seeds": [fits.get(m, MISSING) for m in methods],
        "recall, mean": [number(v) for v in order["recall"]],
        "recall, worst": worst_cells(kept, methods),
        "AUC, mean": [number(v) for v in order["auc"]],
        "FPR, mean": [number(v, DIGITS) for v in order["fpr"]],
        "FPR, largest": [number(v, DIGITS) for v in order["fpr_largest"]],
    }
    for head, key in (("recall, mean", "recall"), ("recall, worst", "worst"), ("AUC, mean", "auc")):
        marked = _bold(columns[head], list(order[key]), fair[key].max())
        keeps = zip(columns[head], marked, order["keeps"], strict=True)
        columns[head] = [new if fits_rule else old for old, new, fits_rule in keeps]
    alien = collections_unseen(kept)
    for name, rows in alien.items():
        head = f"FPR {code(short(name))}, n = {span(rows['n_real'])}"
        columns[head] = [rate_with_interval(rows, method) for method in methods]
    cells = readings.left_out(kept.whole)
    colour = "grey" if params.faces.channels == 1 else "colour"
    names = params.train_generators
    text = (
        f"Recall: the share of the fakes of a generator left out of training that is caught, mean "
        f"over {len(names)} such generators and the worst of them (95 % interval); FPR: the share "
        f"of photographs called fake, mean and largest over the same fits, whose thresholds were "
        f"set for {percent(params.matrix.threshold.fpr)}"
    )
    if alien:
        text += ", then of collections that the fit never saw (95 % interval)"
    text += (
        f". {span(cells['n_fake'])} fakes and {span(cells['n_real'])} photographs a cell, "
        f"{params.faces.size}x{params.faces.size} {colour}. Bold: the best of the methods whose "
        "false positives agree with that rate."
    )
    return f"{text}\n\n{table(list(columns), list(zip(*columns.values(), strict=True)))}"


def _recall_auc(rows: pd.DataFrame) -> str:
    """Write recall with its interval, then AUC, of one cell."""
    if rows.empty:
        return MISSING
    return f"{with_interval(rows, 'recall')}, {number(rows['auc'].iloc[0])}"


def _cells(kept: Kept, cells: pd.DataFrame, names: Sequence[str]) -> str:
    """Write cells: methods by generators, with the number of fakes."""
    counts = (span(cells[cells["generator"] == name]["n_fake"]) for name in names)
    head = [f"{code(name)}, n = {n}" for name, n in zip(names, counts, strict=True)]
    rows = []
    for method in kept.params.methods:
        mine = cells[cells["method"] == method]
        rows.append(
            [code(method), *(_recall_auc(mine[mine["generator"] == name]) for name in names)]
        )
    return table(["method", *head], rows)


def cells(kept: Kept) -> str:
    """Every method on every generator that was left out: recall with its interval, AUC."""
    left = readings.left_out(kept.whole)
    return _cells(kept, left, kept.params.train_generators)


def wild(kept: Kept) -> str:
    """Every method, trained on all that is to be trained on, on what is for testing only."""
    tested = readings.tested_only(kept.whole)
    names = [name for name in kept.params.generators if name in set(tested["generator"])]
    if not names:
        return "This profile has no generator that is for testing only."
    return _cells(kept, tested, names)


def families(kept: Kept) -> str:
    """Recall with the whole family left out, with its interval, beside that of one left out."""
    heat = heats.family_heat(kept.whole, kept.params)
    head = [f"{code(name)} ({family})" for name, family in heat.columns]
    rows = []
    for method, row in heat.rows:
        texts = []
        for cell in row:
            text = f"{cell.text} ({cell.interval})" if cell.interval else cell.text
            texts.append(f"{text}, {cell.small}" if cell.small else text)
        rows.append([code(method), *texts])
    return table(["method", *head], rows)


def collections(kept: Kept) -> str:
    """False-positive rates of every fit, on the collections in training and on each."""
    rates = tables.fpr_table(kept.whole, kept.params)
    rows = [[code(method), code(held_out), *rest] for method, held_out, *rest in rates.rows]
    return table(rates.head, rows)


def ablation(kept: Kept) -> str:
    """One row per variant, in the order of params.yaml, with what it gains on the one before."""
    methods, order, fits = list(kept.params.methods), means(kept), seeds(kept)
    found = kept.comparisons[
        (kept.comparisons["held_out"] == MEAN) & (kept.comparisons["metric"] == "recall")
    ]
    gains = [""]
    for before, method in pairwise(methods):
        rows = oriented(found, method)
        rows = rows[rows["b"] == before]
        gains.append(_difference(rows.iloc[0]) if len(rows) else MISSING)
    rows = [
        [code(m), fits.get(m, MISSING), number(order.loc[m, "recall"]), worst,
         number(order.loc[m, "auc"]), number(order.loc[m, "fpr"], DIGITS), gain]
        for m, worst, gain in zip(methods, worst_cells(kept, methods), gains, strict=True)
    ]  # fmt: skip
    head = ["variant", "seeds", "recall, mean", "recall, worst", "AUC, mean", "FPR, mean"]
    return table([*head, "recall, minus the row before (95 %, paired)"], rows)


def _difference(row: pd.Series) -> str:
    """Write a difference with its interval and its p, corrected."""
    bounds = f"{signed(row['low'])} to {signed(row['high'])}"
    p = row["p_corrected"]
    return f"{signed(row['difference'])} ({bounds}; {MISSING if np.isnan(p) else p_text(p)})"
