"""Tables and sentences of the report: pure readings of results.parquet and its neighbours.

`cells` is everywhere the rows of results.parquet that sum up all seeds. A `Table` holds text, a
`Heat` text and values. What is not there is `X`, and no mean is made over the rest.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.comparisons import MEAN
from benchmarks.comparisons import METRICS as COMPARED
from benchmarks.fit import CLEAN
from benchmarks.matrix import ALL_SEEDS
from pipeline.manifest import is_real
from pipeline.params import FAMILY_PREFIX, REAL_PREFIX, Params

MISSING = "X"
SIGNIFICANT = 0.05
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


@dataclass(frozen=True)
class Cell:
    """A cell of a heat map.

    Attributes:
        text: its number.
        small: a second line.
        value: how hot it is, 0 to 1; None: no colour.
        interval: of the number, for who points at it.
        alarm: whether it is shown in red.
    """

    text: str
    small: str
    value: float | None
    interval: str = ""
    alarm: bool = False


@dataclass(frozen=True)
class Heat:
    """A heat map: columns (name, small second line), and rows (name, cells)."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def number(value: float, digits: int = 2) -> str:
    """Write a rate, or X where there is none."""
    return MISSING if pd.isna(value) else f"{value:.{digits}f}"


def percent(value: float) -> str:
    """Write a rate in per cent: "56 %", "5 %", and below ten with tenths: "1.5 %"."""
    if pd.isna(value):
        return MISSING
    if value >= 0.0995:
        return f"{100 * value:.0f} %"
    return f"{100 * value:.1f}".removesuffix(".0") + " %"


def signed(value: float, digits: int = 2) -> str:
    """Write a difference: "+0.02", "−0.10"."""
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
    """Write a count that may differ between rows: "120" or "96 to 120"."""
    if not len(values):
        return MISSING
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def listed(names: list[str]) -> str:
    """Write names as a sentence does: "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def unseen(cells: pd.DataFrame, perturbation: str = CLEAN) -> pd.DataFrame:
    """Return the matrix proper: each method on the generator that it never saw."""
    own = (cells["held_out"] == cells["generator"]) & ~cells["generator"].map(is_real)
    return cells[own & (cells["perturbation"] == perturbation)]


def mean_over(rows: pd.DataFrame, params: Params, metric: str) -> pd.Series:
    """Average a metric over held-out generators, by method; NaN where a generator is missing."""
    table = rows.pivot_table(index="method", columns="held_out", values=metric, dropna=False)
    table = table.reindex(index=list(params.methods), columns=list(params.train_generators))
    return table.mean(axis=1, skipna=False)


def own_photographs(cells: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Return one clean cell per fit: its photographs are the same whatever the fakes."""
    clean = cells[cells["perturbation"] == CLEAN]
    rows = clean[clean["generator"].isin(params.train_generators)]
    return rows.drop_duplicates(["method", "held_out"])


def collections(params: Params) -> dict[str, str]:
    """Return the collections for testing only: `generator` of their rows -> name."""
    return {REAL_PREFIX + n: n for n, entry in params.photographs.items() if entry.use == "test"}


def matrix_heat(cells: pd.DataFrame, params: Params) -> Heat:
    """Lay out the matrix: methods by held-out generators, their mean, and false positives."""
    clean = unseen(cells)
    recall, auc = (mean_over(clean, params, metric) for metric in ("recall", "auc"))
    fpr, keeps = mean_over(clean, params, "fpr"), keeps_to_rule(cells, params)
    columns = [
        (name, f"n = {span(clean[clean['held_out'] == name]['n_fake'])}")
        for name in params.train_generators
    ]
    rows = []
    for method in params.methods:
        mine = clean[clean["method"] == method].set_index("held_out")
        row = []
        for name in params.train_generators:
            if name not in mine.index or pd.isna(mine.loc[name, "recall"]):
                row.append(Cell(MISSING, "", None))
                continue
            cell = mine.loc[name]
            row.append(Cell(number(cell["recall"]), f"AUC {number(cell['auc'])}",
                            float(cell["recall"]), bounds(cell, "recall")))  # fmt: skip
        mean = None if pd.isna(recall[method]) else float(recall[method])
        row.append(Cell(number(recall[method]), f"AUC {number(auc[method])}", mean))
        row.append(Cell(percent(fpr[method]), "", None, alarm=not keeps[method]))
        rows.append((method, tuple(row)))
    columns += [("mean", ""), ("FPR", f"n = {span(clean['n_real'])}")]
    return Heat(tuple(columns), tuple(rows))


def cells_table(cells: pd.DataFrame, params: Params) -> Table:
    """Every method on every held-out generator, with n and intervals."""
    clean = unseen(cells)
    rows = []
    for method in params.methods:
        for held_out in params.train_generators:
            cell = clean[(clean["method"] == method) & (clean["held_out"] == held_out)]
            n = (span(cell["n_fake"]), span(cell["n_real"]))
            rows.append((method, held_out, *n, *(with_interval(cell, m) for m in COLUMNS)))
    return Table(("method", "held out", "fakes", "photographs", *COLUMNS.values()), tuple(rows))


def seen_rates(cells: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Mean recall and AUC by method, on generators seen in training and on the one left out.

    Both are means over the same fits; columns `recall_seen`, `recall_unseen`, `auc_seen`, ...
    """
    clean = cells[
        (cells["perturbation"] == CLEAN)
        & cells["generator"].isin(params.train_generators)
        & cells["held_out"].isin(params.train_generators)
    ]
    table = {}
    for metric in ("recall", "auc"):
        seen = clean[clean["seen"]].groupby("method")[metric].mean()
        table[f"{metric}_seen"] = seen.reindex(list(params.methods))
        table[f"{metric}_unseen"] = mean_over(unseen(cells), params, metric)
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


def family_heat(cells: pd.DataFrame, params: Params) -> Heat:
    """Recall on each generator with its whole family held out; small: with itself alone."""
    clean = cells[cells["perturbation"] == CLEAN].set_index(["method", "held_out", "generator"])
    trained = {name: params.generators[name] for name in params.train_generators}
    relatives = Counter(generator.family for generator in trained.values())
    rows = []
    for method in params.methods:
        row = []
        for name, generator in trained.items():
            whole, alone = (method, FAMILY_PREFIX + generator.family, name), (method, name, name)
            if whole not in clean.index or pd.isna(clean.loc[whole, "recall"]):
                row.append(Cell(MISSING, "", None))
                continue
            cell = clean.loc[whole]
            small = ""
            if relatives[generator.family] > 1:
                small = f"alone {number(clean['recall'].get(alone, np.nan))}"
            row.append(Cell(number(cell["recall"]), small, float(cell["recall"]),
                            bounds(cell, "recall")))  # fmt: skip
        rows.append((method, tuple(row)))
    columns = tuple((name, generator.family) for name, generator in trained.items())
    return Heat(columns, tuple(rows))


def fpr_table(cells: pd.DataFrame, params: Params) -> Table:
    """False-positive rates on the test photographs and on other collections."""
    clean, own = cells[cells["perturbation"] == CLEAN], own_photographs(cells, params)
    rows = []
    for method in params.methods:
        for held_out in params.folds():
            fit = (clean["method"] == method) & (clean["held_out"] == held_out)
            mine = own[(own["method"] == method) & (own["held_out"] == held_out)]
            others = (clean[fit & (clean["generator"] == name)] for name in collections(params))
            rates = (with_interval(part, "fpr") for part in (mine, *others))
            rows.append((method, held_out, span(mine["n_real"]), *rates))
    counts = (
        f"{other} (n = {span(clean[clean['generator'] == name]['n_real'])})"
        for name, other in collections(params).items()
    )
    return Table(("method", "held out", "photographs", "own collection", *counts), tuple(rows))


def recall_fpr_points(cells: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Mean recall on unseen generators beside the mean false-positive rate, by method.

    Returns:
        rows of `method`, `collection` ("" = the photographs' own), `recall`, `fpr`, means over the
        fits that left a generator out; rows without a number are left out.
    """
    clean = unseen(cells)
    recall, rows = mean_over(clean, params, "recall"), []
    parts = {"": clean} | {
        other: cells[(cells["generator"] == name) & (cells["perturbation"] == CLEAN)]
        for name, other in collections(params).items()
    }
    for method in params.methods:
        for name, part in parts.items():
            fpr = mean_over(part[part["held_out"].isin(params.train_generators)], params, "fpr")
            rows.append((method, name, recall[method], fpr[method]))
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
            "as it is" if name == CLEAN else name: mean_over(unseen(cells, name), params, metric)
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


def component_heats(study: pd.DataFrame) -> dict[str, Heat]:
    """Lay the colour study out, one heat map per view: generators by components.

    A cell is the AUC of that component alone, as hot as it is above 0.5, and the chi-square
    distance of its residual histograms.
    """
    heats = {}
    for view, rows in study.groupby("perturbation", sort=False):
        components = tuple((name, "") for name in dict.fromkeys(rows["component"]))
        table = rows.set_index(["generator", "component"])
        heats[str(view)] = Heat(
            components,
            tuple(
                (
                    f"{name} (n = {mine['n_fake_test'].iloc[0]})",
                    tuple(
                        Cell(number(cell["auc"]), f"χ² {number(cell['chi_square'])}",
                             float(np.clip(2 * cell["auc"] - 1, 0, 1)))
                        for component, _ in components
                        for cell in [table.loc[(name, component)]]
                    ),
                )
                for name, mine in rows.groupby("generator", sort=False)
            ),
        )  # fmt: skip
    return heats


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
        & history["held_out"].isin(params.train_generators)
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


def keeps_to_rule(cells: pd.DataFrame, params: Params) -> pd.Series:
    """Whether each method's false positives agree with the rate its threshold was set for.

    They do unless even the lower bounds, on average over held-out generators, lie above that rate.
    """
    low = mean_over(unseen(cells), params, "fpr_low")
    return ~(low > params.matrix.threshold.fpr)


def ranking(cells: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Sort the methods: those that keep to their false-positive rate first, then by mean recall.

    A method that calls everything fake catches every fake; it must not win.
    """
    clean = unseen(cells)
    table = pd.DataFrame({m: mean_over(clean, params, m) for m in ("recall", "auc", "fpr")})
    table["keeps"] = keeps_to_rule(cells, params)
    return table.sort_values(["keeps", "recall", "auc"], ascending=False, kind="stable")


def oriented(comparisons: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return the comparisons of one method: `difference` is its own minus the other's."""
    swapped = {"a": "b", "b": "a", "value_a": "value_b", "value_b": "value_a"}
    turned = comparisons[comparisons["b"] == method]
    bounds = {"difference": -turned["difference"], "low": -turned["high"], "high": -turned["low"]}
    turned = turned.assign(**bounds).rename(columns=swapped)
    return pd.concat([comparisons[comparisons["a"] == method], turned])


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
    clean = unseen(cells)
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
    if not collections(params):
        lines.append(
            "No collection of photographs is for testing only (photographs, use: test): how many "
            "photographs from elsewhere would be called fake is not known."
        )
    elif len(others):
        rates = listed([f"{percent(r.fpr)} of {r.collection}" for r in others.itertuples()])
        learnt = others["fpr"].max() > 2 * max(target, first["fpr"])
        more = ", far more than of its own: it knows the collection, not only the making"
        lines.append(
            f"Of photographs of other collections it calls {rates} fake{more if learnt else ''}."
        )
    return lines
