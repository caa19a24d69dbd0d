"""Tables of the report: pure readings of results.parquet and its neighbours.

`cells` is everywhere the rows of results.parquet that sum up all seeds. A `Table` holds text. What
is not there is `X`, and no mean is made over the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.comparisons import COMPARED
from benchmarks.readings import left_out, mean_over, unseen
from benchmarks.scores import ALL_SEEDS, CLEAN
from pipeline.manifest import is_real
from pipeline.params import Params

MISSING = "X"
# Metrics of the table of cells, with their headings.
COLUMNS = {
    "recall": "recall",
    "fpr": "FPR",
    "auc": "AUC",
    "ap": "AP",
    "tpr_at_fpr_05": "TPR at 5 % FPR",
    "tpr_at_fpr_01": "TPR at 1 % FPR",
    "eer": "EER",
    "ece": "ECE",
    "brier": "Brier",
}


@dataclass(frozen=True)
class Table:
    """A table of the page: headings and rows of text."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def number(value: float, digits: int = 2) -> str:
    """Write a rate, or X where there is none.

    >>> number(0.876), number(float("nan"))
    ('0.88', 'X')
    """
    return MISSING if pd.isna(value) else f"{value:.{digits}f}"


def percent(value: float) -> str:
    """Write a rate in per cent, below ten with tenths.

    >>> percent(0.564), percent(0.05), percent(0.015)
    ('56 %', '5 %', '1.5 %')
    """
    if pd.isna(value):
        return MISSING
    if value >= 0.0995:
        return f"{100 * value:.0f} %"
    return f"{100 * value:.1f}".removesuffix(".0") + " %"


def signed(value: float, digits: int = 2) -> str:
    """Write a difference.

    >>> signed(0.02), signed(-0.1), signed(-0.001)
    ('+0.02', '−0.10', '+0.00')
    """
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")  # no −0.00


def bounds(row: pd.Series, metric: str) -> str:
    """Write the bounds of a metric: "0.88–0.97"."""
    return f"{number(row[f'{metric}_low'])}–{number(row[f'{metric}_high'])}"


def with_interval(rows: pd.DataFrame, metric: str) -> str:
    """Write a metric of one cell with its interval, "0.93 (0.88–0.97)", or X without a row."""
    if rows.empty or pd.isna(rows[metric].iloc[0]):
        return MISSING
    return f"{number(rows[metric].iloc[0])} ({bounds(rows.iloc[0], metric)})"


def span(values: pd.Series) -> str:
    """Write a count that may differ between rows.

    >>> span(pd.Series([120, 120])), span(pd.Series([120, 96]))
    ('120', '96 to 120')
    """
    if not len(values):
        return MISSING
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def listed(names: list[str]) -> str:
    """Write names as a sentence does.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def own_photographs(cells: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Return one clean cell per fit: its photographs are the same whatever the fakes."""
    rows = cells[(cells["perturbation"] == CLEAN) & cells["generator"].isin([*params.generators])]
    return rows.drop_duplicates(["method", "held_out"])


def cells_table(cells: pd.DataFrame, params: Params) -> Table:
    """Every method on every generator it never saw, with n and intervals."""
    clean = unseen(cells)
    rows = []
    for method in params.methods:
        for name in params.generators:
            cell = clean[(clean["method"] == method) & (clean["generator"] == name)]
            n = (span(cell["n_fake"]), span(cell["n_real"]))
            rows.append((method, name, *n, *(with_interval(cell, m) for m in COLUMNS)))
    return Table(("method", "never seen", "fakes", "photographs", *COLUMNS.values()), tuple(rows))


def seen_rates(cells: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Mean recall and AUC by method, on generators seen in training and on the one left out.

    Both are means over the same fits; columns `recall_seen`, `recall_unseen`, `auc_seen`, ...
    """
    clean = cells[
        (cells["perturbation"] == CLEAN)
        & cells["generator"].isin(list(params.generators))
        & cells["held_out"].isin(list(params.generators))
    ]
    table = {}
    for metric in ("recall", "auc"):
        seen = clean[clean["seen"]].groupby("method")[metric].mean()
        table[f"{metric}_seen"] = seen.reindex(list(params.methods))
        table[f"{metric}_unseen"] = mean_over(left_out(cells), params, metric)
    return pd.DataFrame(table)


def seen_table(cells: pd.DataFrame, params: Params) -> Table:
    """Write the rates of `seen_rates`, and what is lost on the way."""
    rates = seen_rates(cells, params)
    rows = tuple(
        (str(method), *map(number, row), number(row["recall_seen"] - row["recall_unseen"]))
        for method, row in rates.iterrows()
    )
    head = ("method", "recall, seen", "recall, unseen", "AUC, seen", "AUC, unseen", "recall lost")
    return Table(head, rows)


def collections(cells: pd.DataFrame) -> tuple[str, ...]:
    """Name the collections of photographs that there are rows of."""
    return tuple(name for name in dict.fromkeys(cells["generator"]) if is_real(name))


def short(collection: str) -> str:
    """Write a collection without its kind: `real:orl` as "orl"."""
    return collection.partition(":")[2] or collection


def fpr_table(cells: pd.DataFrame, params: Params) -> Table:
    """False-positive rates on the collections in training together, and on each; * = never seen."""
    clean, own = cells[cells["perturbation"] == CLEAN], own_photographs(cells, params)
    names = collections(clean)
    if len(names) == 1 and clean[clean["generator"] == names[0]]["seen"].all():
        names = ()  # the one that all are trained on
    rows = []
    for method in params.methods:
        for held_out in params.folds():
            fit = clean[(clean["method"] == method) & (clean["held_out"] == held_out)]
            mine = own[(own["method"] == method) & (own["held_out"] == held_out)]
            rates = [with_interval(mine, "fpr")]
            for name in names:
                part = fit[fit["generator"] == name]
                mark = "*" if len(part) and not part["seen"].all() else ""
                rates.append(with_interval(part, "fpr") + mark)
            rows.append((method, held_out, span(mine["n_real"]), *rates))
    counts = (
        f"{short(name)} (n = {span(clean[clean['generator'] == name]['n_real'])})" for name in names
    )
    return Table(("method", "held out", "photographs", "in training", *counts), tuple(rows))


def recall_fpr_points(cells: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Mean recall on unseen generators beside the false-positive rate, by method.

    Returns:
        rows of `method`, `collection` ("" = those in training; else one never seen), `recall` (mean
        over the fits that left a generator out), `fpr` (mean over the same, or of the fit that left
        the collection out); rows without a number are left out.
    """
    clean = left_out(cells)
    recall, rows = mean_over(clean, params, "recall"), []
    rates = {"": mean_over(clean, params, "fpr")}
    for name in collections(cells):
        part = cells[(cells["generator"] == name) & (cells["perturbation"] == CLEAN)]
        part = part[~part["seen"].astype(bool)]
        alone = left_out(part, "collections").set_index("method")["fpr"]
        if len(part):
            rates[short(name)] = alone if len(alone) else mean_over(part, params, "fpr")
    for method in params.methods:
        for name, fpr in rates.items():
            rows.append((method, name, recall[method], fpr.get(method, np.nan)))
    return pd.DataFrame(rows, columns=["method", "collection", "recall", "fpr"]).dropna()


def cross_tables(cells: pd.DataFrame, params: Params) -> dict[str, Table]:
    """Recall of each method, trained without the row, tested on the column; * = never seen."""
    clean = cells[cells["perturbation"] == CLEAN]
    clean = clean.set_index(["method", "held_out", "generator"])["recall"]
    tables = {}
    for method in params.methods:
        rows = []
        for held_out in params.folds():
            trained = params.training_generators(held_out)
            row = [held_out]
            for generator in params.generators:
                mark = "" if generator in trained else "*"
                row.append(number(clean.get((method, held_out, generator), np.nan)) + mark)
            rows.append(tuple(row))
        tables[method] = Table(("trained without", *params.generators), tuple(rows))
    return tables


def robustness(cells: pd.DataFrame, params: Params, metric: str) -> pd.DataFrame:
    """Mean of a metric over unseen generators: methods (rows) by perturbations (columns)."""
    return pd.DataFrame(
        {
            "as it is" if name == CLEAN else name: mean_over(
                left_out(cells, perturbation=name), params, metric
            )
            for name in params.perturbations
        }
    )


def robustness_table(cells: pd.DataFrame, params: Params) -> Table:
    """Mean recall and, in brackets, mean FPR under each perturbation."""
    recall, fpr = (robustness(cells, params, metric) for metric in ("recall", "fpr"))
    rows = tuple(
        (method, *(f"{number(recall.loc[method, name])} ({number(fpr.loc[method, name])})"
                   for name in recall))
        for method in recall.index
    )  # fmt: skip
    return Table(("method", *recall.columns), rows)


def gates_table(audit: pd.DataFrame) -> list[dict[str, Any]]:
    """List the gates: those that did not hold first, hard ones before soft ones."""
    order = audit.sort_values(["passed", "severity"], kind="stable")
    return [
        {"gate": row.gate, "subject": row.subject, "evidence": row.evidence,
         "value": f"{row.value:.3g} (limit {row.limit:.3g})", "passed": row.passed,
         "hard": row.severity == "hard"}
        for row in order.itertuples()
    ]  # fmt: skip


def history_rows(history: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Return what the history says, all seeds together, of what params.yaml names.

    Empty where it holds fewer than two rounds of these.
    """
    rows = history[
        (history["seed"] == ALL_SEEDS)
        & history["method"].isin([*params.methods])
        & history["held_out"].isin([*params.train_generators])
    ]
    return rows if rows["round"].nunique() > 1 else rows[:0]


def history_table(rows: pd.DataFrame) -> Table:
    """Write the rows of `history_rows` as text."""
    return Table(
        ("held out", "method", "round", "images", "recall", "FPR"),
        tuple(
            (row["held_out"], row["method"], str(row["round"]), str(row["images"]),
             f"{number(row['recall'])} ({bounds(row, 'recall')})", number(row["fpr"]))
            for _, row in rows.iterrows()
        ),
    )  # fmt: skip


def timing_table(timings: pd.DataFrame) -> Table:
    """Sum up how long the fits took, by method: rows of `method`, `seconds`, `device`."""
    rows = []
    for method, mine in timings.groupby("method", sort=False):
        mean, total = mine["seconds"].mean(), mine["seconds"].sum() / 60
        devices = ", ".join(sorted(set(mine["device"])))
        rows.append((str(method), str(len(mine)), f"{mean:.1f} s", f"{total:.1f} min", devices))
    return Table(("method", "fits", "each", "together", "on"), tuple(rows))


def p_text(p: float) -> str:
    """Write a p value: "p = 0.012", "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def comparison_table(comparisons: pd.DataFrame) -> Table:
    """Differences by pair and held-out, each with its interval and corrected p."""
    rows = []
    keys = ["a", "b", "held_out"]
    for (a, b, held_out), same in comparisons.groupby(keys, sort=False):
        by_metric = same.set_index("metric")
        cells = []
        for metric in COMPARED:
            row = by_metric.loc[metric]
            cells.append(
                f"{signed(row['difference'])} ({signed(row['low'])} to {signed(row['high'])})\n"
                f"{p_text(row['p_corrected'])}"
            )
        rows.append((f"{a} − {b}", held_out, *cells))
    return Table(("difference", "held out", *(COLUMNS[m] for m in COMPARED)), tuple(rows))
