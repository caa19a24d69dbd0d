"""The documents say what is kept, and nothing else."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import readings
from benchmarks.comparisons import MEAN
from benchmarks.publish import artefact, blocks, claims, picture, render
from pipeline.errors import UserError

ROOT = Path(__file__).parents[3]
MARKED = "above\n<!-- results:{0}:start -->\n{1}<!-- results:{0}:end -->\nbelow\n"


def test_the_documents_of_this_repository_say_what_is_kept():
    """Where this fails: python -m benchmarks.publish render."""
    stale = render.stale(ROOT)
    assert not stale, f"not what docs/results says: {', '.join(map(str, stale))}"
    for name in render.pictured(ROOT / artefact.FOLDER):
        assert (ROOT / render.DOCS / f"matrix-{name}.png").is_file()


def cells_of(table, row):
    """Cells of a row of a table of Markdown, by heading."""
    lines = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")]
    head, _, *rows = lines
    (found,) = (line for line in rows if line[0].strip() == row)
    return dict(zip(map(str.strip, head), map(str.strip, found), strict=True))


def test_the_summary_says_what_results_parquet_says(kept):
    whole = kept.whole
    for method in kept.params.methods:
        left = whole[
            (whole["method"] == method)
            & (whole["held_out"] == whole["generator"])
            & whole["generator"].isin(["a", "b", "c"])
        ].set_index("generator")
        row = cells_of(blocks.summary(kept), f"`{method}`")
        row = {name: text.replace("*", "") for name, text in row.items()}
        assert row["recall, mean"] == f"{left['recall'].mean():.2f}"
        worst = left["recall"].idxmin()
        assert row["recall, worst"].startswith(f"{left['recall'].min():.2f} (")
        assert row["recall, worst"].endswith(f"`{worst}`")
        assert row["AUC, mean"] == f"{left['auc'].mean():.2f}"
        assert row["FPR, mean"] == f"{left['fpr'].mean():.3f}"
        assert row["FPR, largest"] == f"{left['fpr'].max():.3f}"
        assert row["seeds"] == ("1" if method == "dct" else "2")
        mine = whole[whole["method"] == method].set_index(["held_out", "generator"])
        for head, cell in (
            ("far", ("none", "real:far")), ("near", ("real:near", "real:near")),
        ):  # fmt: skip
            rate, low, high = mine.loc[cell, ["fpr", "fpr_low", "fpr_high"]]
            assert row[f"FPR `{head}`, n = 40"] == f"{rate:.3f} ({low:.2f}–{high:.2f})"


def test_bold_is_the_best_of_those_that_keep_to_their_false_positives(kept):
    loud = kept.results.copy()
    loud.loc[loud["method"] == "dct", ["fpr", "fpr_low", "fpr_high"]] = 0.9
    changed = replace(kept, results=loud)
    for each, best in ((kept, "`dct`"), (changed, "`plain`")):
        table = blocks.summary(each)
        bold = {m for m in ("`deepfd`", "`plain`", "`dct`")
                if cells_of(table, m)["recall, mean"].startswith("**")}  # fmt: skip
        assert bold == {best}


def test_a_missing_cell_is_x_and_no_mean_is_made_over_the_rest(kept):
    rows = kept.results
    lacking = rows[~((rows["method"] == "plain") & (rows["held_out"] == "b"))]
    changed = replace(kept, results=lacking)
    row = cells_of(blocks.summary(changed), "`plain`")
    assert (row["recall, mean"], row["FPR, largest"]) == ("X", "X")
    assert cells_of(blocks.cells(changed), "`plain`")["`b`, n = 40"] == "X"


def test_wild_generators_are_told_of_the_fits_that_left_nothing_out(kept):
    rows = readings.whole(kept.results)
    rows = rows[(rows["held_out"] == "none") & (rows["generator"] == "wild")].set_index("method")
    for method in kept.params.methods:
        text = cells_of(blocks.wild(kept), f"`{method}`")["`wild`, n = 40"]
        assert text.startswith(f"{rows.loc[method, 'recall']:.2f} (")


def test_an_ablation_says_what_each_row_gains_on_the_one_before(kept):
    found = kept.comparisons.set_index(["a", "b", "held_out", "metric"])
    gain = -found.loc[("deepfd", "plain", MEAN, "recall"), "difference"]
    column = "recall, minus the row before (95 %, paired)"
    text = cells_of(blocks.ablation(kept), "`plain`")[column].replace("−", "-")
    assert text.startswith(f"{gain:+.2f} (")
    assert cells_of(blocks.ablation(kept), "`deepfd`")[column] == ""


def with_difference(kept, difference, p):
    """Kept results whose deepfd lies this far from dct and plain in mean recall."""
    rows = kept.comparisons.copy()
    mine = (rows["a"] == "deepfd") & (rows["metric"] == "recall") & (rows["held_out"] == MEAN)
    rows.loc[mine, ["difference", "low", "high", "p_corrected"]] = (
        difference, difference - 0.1, difference + 0.1, p,
    )  # fmt: skip
    return replace(kept, comparisons=rows)


@pytest.mark.parametrize(
    ("difference", "p", "expected"),
    [
        (-0.3, 0.001, r"A simpler rival beats `deepfd` on this profile: `dct`\*\* .*30\.0 points "
                      r"more \(\+20\.0 to \+40\.0; .*So does `plain` \(\+30\.0\)"),
        (-0.05, 0.3, r"No simpler rival is shown to beat `deepfd` .*5\.0 points more \(−5\.0 to "
                     r"\+15\.0; .*p = 0\.3"),
        (0.3, 0.001, r"No simpler rival beats `deepfd` .* 30\.0 points less \(\+20\.0 to \+40\.0"),
    ],
)  # fmt: skip
def test_the_verdict_says_first_whether_a_simpler_rival_wins(kept, difference, p, expected):
    assert re.search(r"^\*\*" + expected, claims.verdict(with_difference(kept, difference, p)))


def test_a_rival_that_accuses_too_many_photographs_does_not_win(kept):
    rows = kept.results.copy()
    rows.loc[rows["method"] == "dct", ["fpr", "fpr_low", "fpr_high"]] = 0.9
    changed = replace(kept, results=rows)
    text = claims.verdict(changed)
    assert "beats `deepfd` on this profile: `dct`" not in text
    assert re.search(r"`dct` catches \d+ %, but calls 90 % of the photographs fake", text)


def test_pairs_are_those_that_params_asks_about(kept):
    row = kept.comparisons.set_index(["a", "b", "held_out", "metric"]).loc[
        ("deepfd", "plain", MEAN, "recall")
    ]
    text = claims.pairs(kept)
    assert text.count("\n") == 0 and text.startswith("`deepfd` − `plain`, mean over 3 generators")
    assert f"recall {row['difference']:+.3f}".replace("-", "−") in text


def test_blocks_are_filled_and_all_else_stays(root):
    (root / "README.md").write_text(MARKED.format("small:summary", "of before\n"))
    other = MARKED.format("elsewhere:cells", "stays\n") + MARKED.format("small:ablation", "stays\n")
    (root / "docs/results.md").write_text(MARKED.format("small:cells", "") + other)
    written = render.render(root)
    names = ["README.md", "results.md", "matrix-small.png"]
    assert [path.name for path in written] == names
    text = (root / "README.md").read_text()
    assert text.startswith("above\n<!--") and text.endswith("end -->\nbelow\n")
    assert "of before" not in text and "| `dct` | 1 |" in text
    assert (root / "docs/results.md").read_text().endswith(other)
    assert not render.stale(root) and not render.render(root)
    (root / "README.md").write_text(text.replace("| `dct` | 1 |", "| `dct` | 2 |"))
    assert list(render.stale(root)) == [root / "README.md"]


def test_an_ablation_is_read_from_a_folder_of_its_own(root):
    shutil.copytree(root / "docs/results/small", root / "docs/results/small-ablation")
    (root / "README.md").write_text(MARKED.format("small:ablation", ""))
    render.render(root)
    assert "| variant |" in (root / "README.md").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- results:small:cells:start -->", "has no partner"),
        ("<!-- results:small:cells:end -->", "has no partner"),
        ("<!-- results:small:cells:start --><!-- results:small:wild:end -->", "has no partner"),
        (MARKED.format("small:cell", ""), "no block 'cell'; expected one of summary, cells"),
    ],
)
def test_wrong_marks_are_clear_errors(text, message):
    with pytest.raises(UserError, match=message):
        render.rendered(text, lambda name: None, "README.md")


def test_the_picture_has_both_sides_and_is_the_same_each_time(kept):
    methods, fakes, photographs = picture.panels(kept)
    assert methods == ("deepfd", "plain", "dct")
    names = [name.partition("\n")[0] for name in fakes.columns]
    assert names == ["a", "b", "c", "wild*", "worst", "mean"]
    assert np.allclose(fakes.values[:, 4], fakes.values[:, :3].min(axis=1))
    assert np.allclose(fakes.values[:, 5], fakes.values[:, :3].mean(axis=1))
    others = [name.partition("\n")[0] for name in photographs.columns[2:]]
    assert others == ["near", "other", "far"]
    png = picture.png(kept)
    assert png.startswith(b"\x89PNG") and png == picture.png(kept)


def test_every_block_is_made_of_what_is_kept(kept):
    for block, make in render.BLOCKS.items():
        text = make(kept)
        assert text and "nan" not in text.lower(), block
        table = [line.count("|") for line in text.splitlines() if line.startswith("|")]
        assert len(set(table)) <= 1, block


def test_what_is_kept_has_to_be_whole(root):
    folder = root / artefact.FOLDER
    with pytest.raises(UserError, match=r"other holds no provenance.json; kept are small"):
        artefact.read("other", folder)
    pd.DataFrame({"a": [1]}).to_parquet(folder / "small/comparisons.parquet")
    with pytest.raises(UserError, match="expected \\['a', 'b', 'held_out'"):
        artefact.read("small", folder)
