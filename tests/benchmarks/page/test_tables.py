"""The tables and the verdict of the report: a golden file, and what must hold of any of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.comparisons import COMPARED
from benchmarks.page import heats, tables
from benchmarks.page.verdict import verdict
from benchmarks.readings import ranking

GOLDEN = Path(__file__).parent / "golden/report_tables.txt"


def as_text(title, head, rows):
    rows = [[cell.replace("\n", ", ") for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in rows)
    return "\n".join([f"# {title}", *(line.rstrip() for line in lines), ""])


def table_text(title, table):
    return as_text(title, table.head, table.rows)


def heat_text(title, heat):
    head = ["", *(" ".join(filter(None, column)) for column in heat.columns)]
    rows = [
        [name, *(f"{c.text} {c.small} {c.interval}{' !' * c.alarm}".strip() for c in cells)]
        for name, cells in heat.rows
    ]
    return as_text(title, head, rows)


def test_the_tables_and_the_verdict_are_those_of_the_golden_file(report_parts):
    """To accept a change: delete the golden file, run this test, read the difference."""
    params, cells = report_parts["params"], report_parts["cells"]
    text = "\n".join(
        [
            "# verdict", *verdict(cells, params, report_parts["comparisons"]), "",
            heat_text("matrix", heats.matrix_heat(cells, params)),
            table_text("cells", tables.cells_table(cells, params)),
            table_text("pairs", tables.comparison_table(report_parts["comparisons"])),
            table_text("seen", tables.seen_table(cells, params)),
            heat_text("families", heats.family_heat(cells, params)),
            table_text("fpr", tables.fpr_table(cells, params)),
            *(table_text(name, t) for name, t in tables.cross_tables(cells, params).items()),
            table_text("robustness", tables.robustness_table(cells, params)),
            *(heat_text(f"components, {view}", heat)
              for view, heat in heats.component_heats(report_parts["study"]).items()),
            table_text("history",
                       tables.history_table(tables.history_rows(report_parts["rounds"], params))),
            table_text("timing", tables.timing_table(report_parts["timings"])),
        ]
    )  # fmt: skip
    if not GOLDEN.exists():
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_a_missing_cell_is_an_x_and_no_mean_is_made_over_it(report_parts):
    cells, params = report_parts["cells"], report_parts["params"]
    rows = dict(heats.matrix_heat(cells, params).rows)
    assert [cell.text for cell in rows["dct"]] == ["0.50", "X", "0.40", "X", "X", "24 %"]
    assert "X" not in {cell.text for cell in rows["spectrum"]}
    assert ranking(cells, params).index[-1] == "dct"


def test_a_method_that_calls_too_many_photographs_fake_cannot_win(report_parts):
    cells, params = report_parts["cells"].copy(), report_parts["params"]
    loud = cells["method"] == "dct"
    cells = pd.concat([cells[~loud], cells[cells["method"] == "spectrum"].assign(method="dct")])
    loud = cells["method"] == "dct"
    cells.loc[loud, ["recall", "fpr", "fpr_low", "fpr_high"]] = 1.0, 0.9, 0.8, 0.95
    assert list(ranking(cells, params).index) == ["spectrum", "dct"]
    lines = verdict(cells, params, report_parts["comparisons"])
    assert lines[0].startswith("spectrum catches")
    assert any(line.startswith("dct cannot win") for line in lines)
    # The last column is a collection that neither ever saw.
    fpr = {name: row[-2] for name, row in heats.matrix_heat(cells, params).rows}
    assert fpr["dct"].alarm and not fpr["spectrum"].alarm
    # Where none keeps to the rule, that is said instead of naming a winner alone.
    cells[["fpr", "fpr_low", "fpr_high"]] = 0.9, 0.8, 0.95
    lines = verdict(cells, params, report_parts["comparisons"])
    assert any(line.startswith("No method keeps to") for line in lines)


@pytest.mark.parametrize(
    ("p", "low", "words"),
    [
        (0.001, 0.02, "holds for these generators (p = 0.001"),
        (0.2, 0.02, "is not enough among 3 comparisons"),
        (0.2, -0.02, "does not decide"),
    ],
)
def test_a_lead_is_only_claimed_where_the_corrected_comparison_holds(report_parts, p, low, words):
    cells, params = report_parts["cells"], report_parts["params"]
    cells = cells[cells["method"] == "spectrum"]
    cells = pd.concat([cells, cells.assign(method="dct", recall=cells["recall"] - 0.1)])
    rows = [
        {"a": "dct", "b": "spectrum", "held_out": "mean", "metric": metric, "value_a": 0.45,
         "value_b": 0.55, "difference": -0.1, "low": -0.18, "high": -low, "p": p / 3,
         "p_corrected": p, "comparisons": 3}
        for metric in COMPARED
    ]  # fmt: skip
    line = verdict(cells, params, pd.DataFrame(rows))[1]
    assert line.startswith("The next, dct, catches 45 %")
    assert f"+10.0 points ({tables.signed(100 * low, 1)} to +18.0" in line and words in line


def test_means_are_those_of_pandas(report_parts):
    cells, params = report_parts["cells"], report_parts["params"]
    clean = cells[cells["perturbation"] == "none"]
    unseen = clean[(clean["held_out"] == clean["generator"]) & (clean["method"] == "spectrum")]
    rates = tables.seen_rates(cells, params).loc["spectrum"]
    assert rates["recall_unseen"] == pytest.approx(unseen["recall"].mean())
    mine = clean[clean["held_out"].isin(["a", "b", "c"]) & (clean["method"] == "spectrum")]
    assert rates["auc_seen"] == pytest.approx(mine[mine["seen"]]["auc"].mean())
    blurred = tables.robustness(cells, params, "recall").loc["spectrum", "blur"]
    assert blurred == pytest.approx(unseen["recall"].mean() - 0.2)
    points = tables.recall_fpr_points(cells, params)
    assert list(points["collection"]) == ["", "elsewhere"]  # dct lacks a cell, so it has no mean


def test_gates_are_listed_the_failed_ones_first_hard_before_soft(report_parts):
    rows = tables.gates_table(report_parts["audit"])
    assert [row["gate"] for row in rows] == ["collapse", "border", "sha256"]


def test_one_round_is_no_history(report_parts):
    rounds, params = report_parts["rounds"], report_parts["params"]
    assert len(tables.history_rows(rounds, params)) > 0
    assert tables.history_rows(rounds[rounds["round"] == 0], params).empty
    renamed = params.model_copy(update={"methods": {"other": params.methods["dct"]}})
    assert tables.history_rows(rounds, renamed).empty


def test_a_difference_of_nothing_has_no_minus():
    assert [tables.signed(value) for value in (-0.001, 0.0, -0.1)] == ["+0.00", "+0.00", "−0.10"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5641, "56 %"), (0.05, "5 %"), (0.0149, "1.5 %"), (1.0, "100 %"), (np.nan, "X")],
)
def test_rates_in_per_cent(value, text):
    assert tables.percent(value) == text
