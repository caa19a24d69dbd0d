"""The page: it stands alone, says what its tables say, and shows itself in a real browser."""

from __future__ import annotations

import html
import json
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from benchmarks import readings
from benchmarks import scores as scores_files
from benchmarks.page import heats, pictures, report, tables
from benchmarks.page.verdict import verdict
from benchmarks.scores import SCHEMA
from pipeline import images
from pipeline.errors import UserError
from pipeline.folds import file_name
from pipeline.manifest import write_table


@pytest.fixture
def made(report_parts):
    """Arguments of `report.page`, pictures and all."""
    params, folder = report_parts["params"], report_parts.pop("folder")
    sheet = images.to_pil(pictures.contact_sheet("a", folder))
    return report_parts | {
        "sheets": {"a": pictures.data_uri(sheet)},
        "mistakes": pictures.mistake_pictures(report_parts["scores"], params, folder),
        "made": report.provenance(report_parts["cells"], params),
    }


def test_every_table_stands_in_the_page_and_the_page_asks_for_nothing_outside(made):
    text = report.page(**made)
    for row in tables.cells_table(made["cells"], made["params"]).rows:
        cells = "".join(f"<td>{cell}</td>" for cell in row[1:])
        assert f'<th scope="row">{row[0]}</th>{cells}' in text
    lines = verdict(made["cells"], made["params"], made["comparisons"])
    assert all(f"<p>{line}</p>" in text for line in lines)
    shown = sum(len(kind) for kinds in made["mistakes"].values() for kind in kinds.values())
    assert text.count("<img ") == 1 + shown and shown > 10
    assert not re.search(r"(src|href)=\"(?!data:|#)|@import|url\((?!#)|<script", text)
    anchors = set(re.findall(r'href="#([a-z]+)"', text))
    assert anchors and all(f'<h2 id="{anchor}">' in text for anchor in anchors)


def test_every_figure_there_are_numbers_for_is_drawn_and_no_other(made):
    names = re.findall(r'aria-label="([^"]+)"', report.page(**made))
    assert sum("synthesised images" in name for name in names) == 3
    assert {"ROC curves by method", "Reliability curves by method"} <= set(names)
    assert "false positive rate by method" in names
    bare = made["params"].model_copy(update={"perturbations": ("none",)})
    rest = {"rounds": made["rounds"][:0], "study": made["study"][:0], "params": bare}
    text = report.page(**(made | rest))
    assert not re.search("over synthesised images|false positive rate by method", text)
    for words in ("One round so far", "names no perturbation", "needs colour"):
        assert words in text


def test_the_rows_that_are_named_beside_a_heat_map_are_those_of_its_numbers(made):
    named = re.findall(r"Rows: <code>(.*?)</code>", report.page(**made))
    queries = [html.unescape(code).split("; ")[-1] for code in named]
    made_by = (heats.matrix_heat, heats.family_heat)
    for heat, query in zip(made_by, (queries[0], queries[3]), strict=True):
        rows = eval(query, {"r": made["cells"], **vars(readings)})
        rows = rows.set_index(["method", "generator"])["recall"]
        shown = heat(made["cells"], made["params"])
        for method, cells in shown.rows:
            for (generator, _), cell in zip(shown.columns, cells, strict=True):
                if generator in made["params"].generators:
                    assert cell.text == tables.number(rows.get((method, generator), np.nan))


def test_names_are_escaped(made):
    text = report.page(**(made | {"made": {"heading": "<script>alert(1)</script>"}}))
    assert "<script>" not in text and "&lt;script&gt;" in text


def test_the_same_results_give_the_same_bytes(made):
    assert report.page(**made) == report.page(**made)
    heat = heats.matrix_heat(made["cells"], made["params"])
    png = report.matrix_png(heat)
    assert png == report.matrix_png(heat) and png.startswith(b"\x89PNG")


def test_gates_that_did_not_hold_are_listed_and_hard_ones_in_red(made):
    text = report.page(**made)
    assert "1 of 3 gates and probes held" in text
    assert '<p class="red"><b>Gate collapse did not hold for b</b>' in text
    assert text.count('<tr class="red">') == 1
    assert text.index("half of them alike") < text.index("AUC 0.900") < text.index("no image twice")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_the_page_without_complaint(made, browser, tmp_path, width, scheme):
    path = tmp_path / "index.html"
    path.write_text(report.page(**made))
    browser.open(path, width=width, scheme=scheme)
    assert browser.complaints() == []
    outside = [url for url in browser.requests() if not url.startswith(("data:", path.as_uri()))]
    assert outside == []
    browser.ask("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert (
        browser.ask("[...document.images].filter(i => !i.complete || !i.naturalWidth).length") == 0
    )
    assert (
        browser.ask("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        == 0
    )
    drawn = "[...document.querySelectorAll('figure > svg')].map(s => s.getBoundingClientRect())"
    assert browser.ask(
        f"{drawn}.every(r => r.width > 300 && r.height > 80 && r.right <= innerWidth)"
    )
    # Letters of the figures can be read, and their colours are those of the scheme.
    ink = browser.ask("getComputedStyle(document.querySelector('figure > svg text')).fill")
    soft = {"light": "rgb(86, 96, 107)", "dark": "rgb(163, 173, 184)"}
    assert ink == soft[scheme]
    sizes = (
        "[...document.querySelectorAll('figure > svg text')].map(t => t.getBoundingClientRect())"
    )
    assert browser.ask(f"Math.min(...{sizes}.map(r => r.height))") >= 9


def test_a_browser_that_shows_a_broken_page_complains(browser, tmp_path):
    path = tmp_path / "broken.html"
    path.write_text("<script>undefined_name()</script><img src='data:image/png;base64,AAAA'>")
    browser.open(path)
    assert browser.complaints()
    assert browser.ask("[...document.images].filter(i => !i.naturalWidth).length") == 1


def test_missing_damaged_and_empty_results_are_clear_errors(tmp_path):
    path = tmp_path / "results.parquet"
    with pytest.raises(UserError, match="not found; run dvc repro matrix"):
        readings.read(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match="damaged"):
        readings.read(path)
    write_table(path, readings.RESULTS_SCHEMA.empty_table())
    with pytest.raises(UserError, match="holds 0 rows"):
        readings.read(path)


def test_of_the_scores_only_unseen_fakes_and_photographs_of_clean_images_are_read(
    report_parts, tmp_path
):
    params = report_parts["params"]
    with pytest.raises(UserError, match=r"spectrum/a\.parquet not found"):
        report.read_scores(params, tmp_path)
    rows = pd.DataFrame(
        [
            {"image_id": f"{generator}-{i}", "label": int(generator in "abc"), "score": 0.5,
             "generator": generator, "seed": 0, "perturbation": perturbation, "threshold": 0.4,
             "split": split, "identity": ""}
            for split, generators in (("test", ("real:one", "a", "b", "c", "real:elsewhere")),
                                      ("valid", ("real:one",)))
            for generator in generators
            for perturbation in (("none", "blur") if split == "test" else ("none",))
            for i in range(3)
        ]
    )  # fmt: skip
    rest = dict.fromkeys(("family", "threshold_rule", "code", "data"), "x") | {"n_train": 1}
    for method in params.methods:
        for held_out in params.generators:
            whole = rows.assign(method=method, held_out=held_out, **rest)
            table = pa.Table.from_pandas(whole[SCHEMA.names], preserve_index=False)
            write_table(scores_files.scores_path(method, held_out, tmp_path), table.cast(SCHEMA))
    scores = report.read_scores(params, tmp_path)
    assert len(scores) == 2 * 3 * 9
    fakes = scores[scores["label"] == 1]
    assert (fakes["generator"] == fakes["held_out"]).all()
    photographs = scores[scores["label"] == 0]
    assert set(photographs[photographs["seen"]]["generator"]) == {"real:one"}


def test_timings_are_read_of_the_fits_that_params_yaml_names(report_parts, tmp_path):
    assert report.read_timings(report_parts["params"], tmp_path).empty
    for name in ("spectrum/a/0", f"spectrum/{file_name('family:y')}/1", "gone/a/0"):
        (tmp_path / name).mkdir(parents=True)
        timing = json.dumps({"seconds": 1.5, "device": "one CPU"})
        (tmp_path / name / "timing.json").write_text(timing)
    timings = report.read_timings(report_parts["params"], tmp_path)
    assert list(timings["method"]) == ["spectrum", "spectrum"]
    assert np.allclose(timings["seconds"], 1.5)
