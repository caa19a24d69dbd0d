"""How far one run is from another: within the tolerance or beyond, and where."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks import fit, matrix, readings, workers
from benchmarks.publish import compare
from benchmarks.publish.__main__ import main as publish
from pipeline import folds


def moved(results, method, metric, by, seed=-1):
    """Results with one cell moved."""
    rows = results.copy()
    cell = (
        (rows["method"] == method)
        & (rows["held_out"] == "a")
        & (rows["generator"] == "a")
        & (rows["seed"] == seed)
    )
    assert cell.sum() == 1
    rows.loc[cell, metric] += by
    return rows


def test_the_same_results_do_not_differ(kept):
    text, holds = compare.report(kept.results, kept.params, kept)
    assert holds and "largest of recall, fpr, auc: 0.0000" in text
    assert "another than the kept one" not in text


@pytest.mark.parametrize(
    ("method", "by", "tolerance", "expected"),
    [
        ("plain", 0.04, {}, True), ("plain", -0.06, {}, False),
        ("plain", -0.06, {compare.LEARNED: 0.1}, True),
        ("dct", 0.0005, {}, True), ("dct", 0.002, {}, False),
        ("dct", 0.002, {compare.LEARNED: 0.1}, False),
    ],
)  # fmt: skip
def test_learned_methods_may_differ_more_than_those_that_draw_nothing(
    kept, method, by, tolerance, expected
):
    here = moved(kept.results, method, "recall", by)
    text, holds = compare.report(here, kept.params, kept, tolerance)
    assert holds is expected
    assert f"largest of recall, fpr, auc: {abs(by):.4f} ({method}, a held out, on a" in text


def test_where_the_fakes_are_is_compared_too(located):
    here, results = located.localisation.copy(), located.results
    text, holds = compare.report(results, located.params, located, {}, here)
    assert holds and "where the fakes are (tolerance 0.05):" in text
    cell = (here["held_out"] == "a") & (here["generator"] == "a") & (here["region"] == "all")
    cell &= (here["composite"] == "fake_in_photograph") & (here["map"] == "heat_map")
    assert cell.sum() == 1
    here.loc[cell, "pixel_auc"] += 0.07
    text, holds = compare.report(results, located.params, located, {}, here)
    assert not holds
    assert "pixel_auc            0.0700" in text
    assert "a held out, fake in photograph of a, heat_map" in text
    # A row that one of the two lacks is beyond any tolerance.
    gone = compare.largest_of_map(located.localisation[~cell], located.localisation)
    assert gone.difference == float("inf") and gone.where.startswith("a held out")
    # A run that made none has nothing to compare.
    text, holds = compare.report(results, located.params, located)
    assert holds and "where the fakes are" not in text


def test_single_seeds_and_other_metrics_are_printed_and_do_not_decide(kept):
    here = moved(kept.results, "plain", "auc", 0.3, seed=1)
    text, holds = compare.report(here, kept.params, kept)
    assert holds and "auc 0.3000" in text
    here = moved(kept.results, "dct", "brier", 0.25)
    text, holds = compare.report(here, kept.params, kept)
    assert holds and "brier                0.2500" in text


def test_a_value_that_one_of_them_lacks_is_beyond_any_tolerance(kept):
    here = moved(kept.results, "dct", "auc", np.nan)
    text, holds = compare.report(here, kept.params, kept, dict.fromkeys(compare.TOLERANCE, 1.0))
    assert not holds and "BEYOND" in text


def test_rows_of_one_alone_are_named(kept):
    rows = kept.results
    fewer = rows[rows["held_out"] != "real:near"]
    text, holds = compare.report(fewer, kept.params, kept)
    assert not holds and "rows kept, and not here: 56 (deepfd, real:near, a" in text
    changed = replace(kept, results=fewer)
    text, holds = compare.report(rows, kept.params, changed)
    assert not holds and "rows here, and not kept: 56" in text


def test_other_params_images_and_code_are_told(kept):
    params = kept.params.model_copy(update={"seed": 1})
    here = kept.results.assign(data="e")
    here.loc[here["method"] == "dct", "code"] = "new"
    text, holds = compare.report(here, params, kept)
    assert holds and "another than the kept one: seed" in text
    assert "not the same to the bit" in text and "fitted dct" in text


def test_runs_that_differ_in_digests_alone_are_the_same(kept):
    rows = kept.results
    assert compare.same(rows.assign(code="new", data="e"), rows) == []
    assert compare.same(rows.iloc[::-1].reset_index(drop=True), rows) == [
        "the rows are in another order"
    ]
    moved_by_a_bit = moved(rows, "dct", "recall", 1e-15)
    (line,) = compare.same(moved_by_a_bit, rows)
    assert line.startswith("recall differs in 1 rows: ") and line.endswith(": dct, a, a, none, -1")
    (line,) = compare.same(moved(rows, "dct", "auc", np.nan), rows)
    assert line.startswith("auc differs in 1 rows: nan here, ")
    assert "rows of this run alone: dct, a, a, none, -1" in compare.same(
        rows, rows[rows["held_out"] != "a"]
    )


@pytest.mark.timeout(600)
def test_a_project_that_is_run_twice_is_the_same_to_the_bit(
    small_profile, tmp_path, monkeypatch, capsys
):
    """A real run of two methods, then one with another seed."""
    methods = {
        "dct": {"method": "dct"},
        "plain": {"method": "plain", "widths": [4], "steps": 2, "batch": 8},
    }
    params, _ = small_profile(methods=methods, fit={"seeds": [0]})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(workers.WORKERS, "1")

    def run(**changes):
        values = params.model_copy(update=changes).model_dump(mode="json")
        Path("params.yaml").write_text(yaml.safe_dump(values))
        folds.main()
        for method in methods:
            shutil.rmtree(fit.MODELS / method, ignore_errors=True)
            fit.main([method])
        matrix.main()

    run()
    before = readings.RESULTS.rename("before.parquet")
    run()
    publish(["compare", "--results", str(before)])
    assert "equal to before.parquet but for digests" in capsys.readouterr().out
    run(seed=7)
    with pytest.raises(SystemExit):
        publish(["compare", "--results", str(before)])
    assert "differs in" in capsys.readouterr().out


def test_options_that_are_newer_than_the_kept_run_are_no_other_params(kept):
    older = kept.provenance | {"params_sha256": "of the options that there were"}
    before = replace(kept, provenance=older)
    text, holds = compare.report(kept.results, kept.params, before)
    assert holds and "another than the kept one" not in text


def test_a_run_that_shares_no_row_is_beyond_any_tolerance(kept):
    here = kept.results.assign(method=kept.results["method"] + "_b")
    text, holds = compare.report(here, kept.params, kept, dict.fromkeys(compare.TOLERANCE, 1.0))
    assert not holds and text.count("no row that both have") == 2
    assert f"rows kept, and not here: {len(here)} " in text


@pytest.mark.parametrize("tolerance", ["-0.1", "nan", "5"])
def test_a_tolerance_that_is_no_difference_of_rates_is_refused(tolerance, capsys):
    with pytest.raises(SystemExit):
        publish(["compare", "--tolerance", tolerance])
    assert "expected 0 to 1" in capsys.readouterr().err
