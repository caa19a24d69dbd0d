"""The probes beside the results, what a finish costs, and what is unseen together."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pandas as pd
import pytest

from benchmarks import matrix
from benchmarks.publish import origins, render
from pipeline import params as params_module

from .conftest import METHODS, scores, values
from .test_render import cells_of


def rows_of(text):
    """Rows of a table of Markdown, as dicts."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    head, _, *rows = ([cell.strip() for cell in line] for line in lines)
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_each_generators_auc_stands_beside_the_recall_on_it(kept):
    text = origins.probes(kept)
    row = cells_of(text, "`b`")
    assert [row[f"AUC of `{p}`"] for p in ("bands", "grid", "blockiness")] == [
        "0.510", "0.610", "0.710"
    ]  # fmt: skip
    whole = kept.whole.set_index(["method", "held_out", "generator"])["recall"]
    assert row["recall `deepfd`"] == f"{whole['deepfd', 'b', 'b']:.2f}"
    # Of one that is for testing only, the fit that left nothing out.
    wild = cells_of(text, "`wild`")
    assert wild["recall `deepfd`"] == f"{whole['deepfd', 'none', 'wild']:.2f}"
    pair = cells_of(text, "`near` and `other`")
    assert (pair["AUC of `bands`"], pair["recall `deepfd`"]) == ("0.540", "")


def test_a_probe_that_was_not_run_is_x(kept):
    rows = kept.audit
    lacking = rows[~((rows["gate"] == "bands") & (rows["subject"] == "b"))]
    found = cells_of(origins.probes(replace(kept, audit=lacking)), "`b`")
    assert (found["AUC of `bands`"], found["AUC of `grid`"]) == ("X", "0.610")


@pytest.fixture(scope="module")
def finished():
    """Params and results of a run with a finish, whose fakes look less like fakes under JPEG 75."""
    finish = values()["faces"] | {"finish": {"jpeg": 90}}
    params = params_module.parse(values(faces=finish, perturbations=["none", "jpeg75"]))
    clean = scores(params)
    under = clean[clean["split"] == "test"].assign(perturbation="jpeg75")
    under["score"] = under["score"].where(under["label"] == 0, under["score"] / 2)
    return params, matrix.build(params, pd.concat([clean, under], ignore_index=True))[0]


def test_a_finish_is_told_by_run_and_by_what_was_done_at_the_test(kept, finished):
    params, results = finished
    run = replace(kept, params=params, results=results)
    rows = rows_of(origins.finish(kept, run))
    mine = [row for row in rows if row["method"] == "`plain`"]
    assert [(row["finish"], row["at the test"]) for row in mine] == [
        ("none", "as they are"), ("JPEG 90, 4:2:0", "as they are"), ("JPEG 90, 4:2:0", "jpeg75"),
    ]  # fmt: skip
    assert len(rows) == 3 * len(METHODS)
    for perturbation, row in (("none", mine[1]), ("jpeg75", mine[2])):
        cells = results[
            (results["method"] == "plain") & (results["seed"] == -1)
            & (results["perturbation"] == perturbation)
        ]  # fmt: skip
        left = cells[
            (cells["held_out"] == cells["generator"]) & cells["generator"].isin(list("abc"))
        ]
        assert row["recall, mean"] == f"{left['recall'].mean():.2f}"
        worst = left.set_index("generator")["recall"]
        assert row["recall, worst"] == f"{worst.min():.2f} `{worst.idxmin()}`"
        assert row["AUC, mean"] == f"{left['auc'].mean():.2f}"
        assert row["FPR, mean"] == f"{left['fpr'].mean():.3f}"
        for name, held_out in (("far", "none"), ("near", "real:near")):
            cell = cells[(cells["held_out"] == held_out) & (cells["generator"] == f"real:{name}")]
            rate, low, high = cell[["fpr", "fpr_low", "fpr_high"]].iloc[0]
            assert row[f"FPR `{name}`, n = 40"] == f"{rate:.3f} ({low:.2f}–{high:.2f})"
    assert float(mine[2]["recall, mean"]) < float(mine[1]["recall, mean"])


def test_a_missing_cell_leaves_no_mean(kept):
    rows = kept.results
    lacking = rows[~((rows["method"] == "plain") & (rows["held_out"] == "b"))]
    found = rows_of(origins.finish(replace(kept, results=lacking)))
    row = next(row for row in found if row["method"] == "`plain`")
    assert (row["recall, mean"], row["recall, worst"], row["AUC, mean"]) == ("X", "X", "X")


def test_a_finish_is_read_from_two_folders_and_neither_has_a_picture(kept, root):
    home = root / "docs/results"
    (home / "small").rename(home / "small-finish-none")
    page = "<!-- results:small:finish:start -->\n<!-- results:small:finish:end -->\n"
    (root / "README.md").write_text(page)
    assert not render.render(root)  # one of two: nothing is said
    shutil.copytree(home / "small-finish-none", home / "small-finish-jpeg")
    assert [path.name for path in render.render(root)] == ["README.md"]
    assert "| `dct` | none | as they are |" in (root / "README.md").read_text()


def test_a_generator_and_a_collection_unseen_together_have_their_row(kept):
    assert "left out no generator" in origins.together(kept)
    params = params_module.parse(values(fit={"seeds": [0], "together": True}))
    results = matrix.build(params, scores(params))[0]
    both = replace(kept, params=params, results=results)
    rows = rows_of(origins.together(both))
    assert [(row["method"], row["left out with each generator"]) for row in rows] == [
        (f"`{method}`", f"`{name}`") for method in METHODS for name in ("near", "other")
    ]
    cells = both.whole.set_index(["method", "held_out", "generator"])
    recalls = [cells.loc[("dct", f"{g}+real:other", g), "recall"] for g in "abc"]
    rates = [cells.loc[("dct", f"{g}+real:other", "real:other"), "fpr"] for g in "abc"]
    far = [cells.loc[("dct", f"{g}+real:other", "real:far"), "fpr"] for g in "abc"]
    row = rows[-1]
    assert row["recall on it, mean"] == f"{sum(recalls) / 3:.2f}"
    assert row["recall, worst"].startswith(f"{min(recalls):.2f} `")
    for column, found in (("FPR on the collection left out", rates), ("FPR `far`, n = 40", far)):
        assert row[column].startswith(f"{sum(found) / 3:.3f}")
        assert min(found) == max(found) or f"({min(found):.3f}–{max(found):.3f})" in row[column]
