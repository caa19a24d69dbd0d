"""The page: its tables against a golden file, and that nothing on it is a photograph."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import matrix, report
from benchmarks.metrics import METRICS
from pipeline import images, manifest
from pipeline.errors import UserError

GOLDEN = Path(__file__).parent / "golden/report_tables.txt"


AUDIT = pd.DataFrame(
    [
        ("sha256", "photographs", 0.0, 0.0, True, "hard", "no image twice"),
        ("border", "a", 0.9, 0.75, False, "soft", "AUC 0.900"),
        ("collapse", "b", 0.5, 0.05, False, "hard", "half of them alike"),
    ],
    columns=["gate", "subject", "value", "limit", "passed", "severity", "evidence"],
)


@pytest.fixture
def params(small_profile):
    return small_profile(other_reals={"elsewhere": {"path": "-", "crop": "center"}})[0]


@pytest.fixture
def results():
    """Made-up results with round numbers: dct misses `b`, which is not available."""
    rows = []
    for m, method in enumerate(("spectrum", "dct")):
        for h, held_out in enumerate(("a", "b", "c", "none")):
            for g, generator in enumerate(("a", "b", "c", "real:elsewhere")):
                if (method, held_out, generator) == ("dct", "b", "b"):
                    continue
                real = generator.startswith("real:")
                value = 0.9 - 0.1 * m - 0.05 * h - (0.3 if held_out == generator else 0)
                row = dict.fromkeys(matrix.RESULTS_SCHEMA.names, "x") | {
                    "method": method, "held_out": held_out, "generator": generator,
                    "perturbation": "none", "seed": matrix.ALL_SEEDS, "family": "y", "round": 0,
                    "seen": not real and held_out != generator, "n_train": 80, "threshold": 0.6,
                    "threshold_rule": "fpr <= 0.05", "undefined": "",
                    "n_real": 40, "n_fake": 0 if real else 30 + g,
                }  # fmt: skip
                for name in METRICS:
                    middle = np.nan if real and name != "fpr" else value
                    middle = 0.04 if name == "fpr" else middle
                    row |= {
                        name: middle,
                        f"{name}_low": middle - 0.03,
                        f"{name}_high": middle + 0.03,
                    }
                rows.append(row)
    return pd.DataFrame(rows)


def as_text(title, table):
    widths = [max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)]
    lines = (
        "  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True))
        for r in (table.head, *table.rows)
    )
    return "\n".join([f"# {title}", *(line.rstrip() for line in lines), ""])


def test_the_tables_and_the_verdict_are_those_of_the_golden_file(params, results):
    """To accept a change: delete the golden file, run this test, read the difference."""
    heat = report.heat(results, params)
    rows = tuple((m, *(f"{r} AUC {a}" for r, _, a in cells)) for m, cells in heat.rows)
    text = "\n".join(
        [
            "# verdict", *report.verdict(results), "",
            as_text("heat", report.Table(("method", *heat.columns), rows)),
            as_text("cells", report.cells_table(results, params)),
            as_text("seen", report.seen_table(results, params)),
            as_text("fpr", report.fpr_table(results, params)),
            *(as_text(name, table) for name, table in report.cross_tables(results, params).items()),
        ]
    )  # fmt: skip
    if not GOLDEN.exists():
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_a_missing_cell_is_an_x_and_no_mean_is_made_over_it(params, results):
    rows = dict(report.heat(results, params).rows)
    assert [text for text, _, _ in rows["dct"]] == ["0.50", "X", "0.40", "X"]
    assert "X" not in {text for text, _, _ in rows["spectrum"]}


def test_every_table_stands_in_the_page_and_the_page_asks_for_nothing_outside(params, results):
    sheet = images.encode_png(np.zeros((4, 4, 1), np.uint8))
    html = report.page(results, params, {"a": sheet}, report.provenance(results, params), AUDIT)
    for row in report.cells_table(results, params).rows:
        cells = "".join(f"<td>{cell}</td>" for cell in row[1:])
        assert f'<th scope="row">{row[0]}</th>{cells}' in html
    assert all(line in html.replace("&lt;", "<") for line in report.verdict(results))
    assert html.count("<img ") == 1
    assert not re.search(r"(src|href)=\"(?!data:)|@import|url\(|<script", html)


def test_names_are_escaped(params, results):
    html = report.page(results, params, {}, {"heading": "<script>alert(1)</script>"}, AUDIT)
    assert "<script>" not in html and "&lt;script&gt;" in html


def test_the_same_results_give_the_same_bytes(params, results):
    made = report.provenance(results, params)
    assert report.page(results, params, {}, made, AUDIT) == report.page(
        results, params, {}, made, AUDIT
    )
    heat = report.heat(results, params)
    png = report.matrix_png(heat)
    assert png == report.matrix_png(heat) and png.startswith(b"\x89PNG")


def test_contact_sheets_show_the_fakes_in_order_and_refuse_photographs(small_profile):
    _, folder = small_profile(count=20)
    sheet = images.decode_png(report.contact_sheet("a", folder))
    assert sheet.shape == (3 * 32, 8 * 32, 1)
    fakes = manifest.pixels(manifest.read(folder / "a"))
    assert np.array_equal(sheet[:32, :32], fakes[0])
    assert np.array_equal(sheet[32:64, 32:64], fakes[9])
    assert (sheet[64:, 4 * 32 :] == 255).all()
    with pytest.raises(UserError, match="not fakes of real"):
        report.contact_sheet("real", folder)


def test_missing_damaged_and_empty_results_are_clear_errors(tmp_path):
    path = tmp_path / "results.parquet"
    with pytest.raises(UserError, match="not found; run dvc repro matrix"):
        report.read_results(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match="damaged"):
        report.read_results(path)
    matrix.write_table(path, matrix.RESULTS_SCHEMA.empty_table())
    with pytest.raises(UserError, match="holds 0 rows"):
        report.read_results(path)


def test_gates_that_did_not_hold_are_listed_hard_ones_first_and_in_red(params, results):
    assert [gate["gate"] for gate in report.gates_table(AUDIT)] == ["collapse", "border"]
    html = report.page(results, params, {}, {}, AUDIT)
    assert "1 of 3 gates and probes held" in html
    assert '<p class="red"><b>Gate collapse did not hold for b</b>' in html
    assert html.count('<tr class="red">') == 1
    assert "no image twice" not in html
