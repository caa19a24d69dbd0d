"""Heat maps of the report: the two-sided matrix, families, colour components.

`cells` is, as in `benchmarks.page.tables`, the rows of results.parquet that sum up all seeds. What
is not there is X, and no mean is made over the rest.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.page.tables import MISSING, bounds, number, percent, short, span
from benchmarks.readings import (
    keeps_to_rule,
    left_out,
    mean_over,
    tested_only,
    unseen,
)
from benchmarks.scores import CLEAN
from pipeline.params import FAMILY_PREFIX, Params

# Of the matrix: the last column of the side of fakes.
MEAN = "mean"


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


def _recall(cell: pd.DataFrame) -> Cell:
    """Write recall and AUC of one row, or X without it."""
    if cell.empty or pd.isna(cell["recall"].iloc[0]):
        return Cell(MISSING, "", None)
    row = cell.iloc[0]
    small, interval = f"AUC {number(row['auc'])}", bounds(row, "recall")
    return Cell(number(row["recall"]), small, float(row["recall"]), interval)


def matrix_heat(cells: pd.DataFrame, params: Params) -> Heat:
    """Lay out the matrix, both sides: fakes never seen, and photographs.

    Columns: recall on each generator that was left out, on those for testing only, the mean over
    the former; the false-positive rate on the collections in training (in red where it does not
    agree with the rate that thresholds were set for), and on each collection never seen.
    """
    clean, foreign = left_out(cells), unseen(cells, "collections")
    recall, auc = (mean_over(clean, params, metric) for metric in ("recall", "auc"))
    fpr, keeps = mean_over(clean, params, "fpr"), keeps_to_rule(cells, params)
    fakes = pd.concat([clean, tested_only(cells)])
    held_out = params.train_generators
    generators = (*held_out, *(name for name in params.generators if name not in held_out))
    collections = tuple(dict.fromkeys(foreign["generator"]))
    columns = []
    for name in generators:
        n = f"n = {span(fakes[fakes['generator'] == name]['n_fake'])}"
        columns.append((name, n if name in held_out else f"{n}, test only"))
    columns += [(MEAN, ""), ("FPR", f"n = {span(clean['n_real'])}")]
    for name in collections:
        n = span(foreign[foreign["generator"] == name]["n_real"])
        columns.append((f"FPR {short(name)}", f"n = {n}, never seen"))
    rows = []
    for method in params.methods:
        mine, others = (part[part["method"] == method] for part in (fakes, foreign))
        row = [_recall(mine[mine["generator"] == name]) for name in generators]
        mean = None if pd.isna(recall[method]) else float(recall[method])
        row.append(Cell(number(recall[method]), f"AUC {number(auc[method])}", mean))
        row.append(Cell(percent(fpr[method]), "", None, alarm=not keeps[method]))
        for name in collections:
            cell = others[others["generator"] == name]
            if cell.empty:
                row.append(Cell(MISSING, "", None))
                continue
            loud = cell["fpr_low"].iloc[0] > params.matrix.threshold.fpr
            row.append(Cell(percent(cell["fpr"].iloc[0]), "", None, bounds(cell.iloc[0], "fpr"),
                            alarm=bool(loud)))  # fmt: skip
        rows.append((method, tuple(row)))
    return Heat(tuple(columns), tuple(rows))


def family_heat(cells: pd.DataFrame, params: Params) -> Heat:
    """Recall on each generator with its whole family held out; small: with itself alone."""
    clean = cells[cells["perturbation"] == CLEAN].set_index(["method", "held_out", "generator"])
    names = params.train_generators
    relatives = Counter(params.generators[name].family for name in names)
    rows = []
    for method in params.methods:
        row = []
        for name in names:
            generator = params.generators[name]
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
    columns = tuple((name, params.generators[name].family) for name in names)
    return Heat(columns, tuple(rows))


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
