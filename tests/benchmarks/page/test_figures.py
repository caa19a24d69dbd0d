"""Figures stand inside a page: no fixed colours, no clash of ids, the points that were given."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.page import figures


@pytest.fixture(scope="module")
def drawn():
    rates = pd.Series({"one": 0.9, "two": 0.8})
    draw = np.random.default_rng(0)
    label = draw.integers(0, 2, 400)
    score = 1 / (1 + np.exp(-draw.normal(2 * label - 1, 1)))
    scores = pd.DataFrame({"method": ["one", "two"] * 200, "label": label, "score": score})
    points = pd.DataFrame({"method": ["one", "one"], "collection": ["", "x"],
                           "recall": [0.5, 0.5], "fpr": [0.05, 0.9]})  # fmt: skip
    rounds = pd.DataFrame({"method": "two", "images": [100, 200], "recall": [0.4, 0.5],
                           "recall_low": [0.3, 0.4], "recall_high": [0.5, 0.6]})  # fmt: skip
    table = pd.DataFrame({"as it is": [0.9, 0.8], "blur": [0.5, 0.4]}, index=["one", "two"])
    return scores, {
        "seen": figures.before_after("seen", rates, rates - 0.3, ("seen", "unseen"), "recall"),
        "recall-fpr": figures.recall_against_fpr(points, ["one", "two"], 0.05),
        "roc": figures.roc(scores),
        "reliability": figures.reliability(scores),
        "robust": figures.over_categories("robust", table, "recall", 0.05),
        "history": figures.over_images("history", rounds, ["one", "two"], "dcgan"),
    }


def test_every_figure_is_one_svg_element_that_takes_its_colours_from_the_page(drawn):
    for name, text in drawn[1].items():
        root = ET.fromstring(text.replace("<svg ", '<svg xmlns:xlink="x" ', 1))
        assert root.get("role") == "img" and root.get("aria-label"), name
        assert not re.search(r"#[0-9a-f]{6}\b(?![0-9a-f])(?=[;\"])", text.replace('="#', "")), name
        assert "var(--ink)" in text or "var(--soft)" in text, name
        assert "DejaVu" not in text and "<script" not in text, name


def test_ids_are_unique_over_all_figures_but_for_equal_definitions(drawn):
    seen = {}
    for text in drawn[1].values():
        for element in re.findall(r'<(?:path|clipPath) id="([^"]+)"(.*?)/>', text, flags=re.S):
            assert seen.setdefault(element[0], element[1]) == element[1]
        for reference in re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", text):
            assert f'id="{"".join(reference)}"' in text


def test_the_roc_curve_encloses_the_area_of_the_scores(drawn):
    """Read back from the drawing: axes run from -0.02 to 1.02 and 1.04."""
    scores, texts = drawn
    paths = re.findall(
        r'<path d="([^"]+)"[^>]*style="fill: none; stroke: var\(--c0\)', texts["roc"]
    )
    assert len(paths) == 1
    points = np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", paths[0]), dtype=float)
    x, y = points[:, 0], -points[:, 1]
    fpr, tpr = (x - x[0]) / (x[-1] - x[0]), (y - y[0]) / (y[-1] - y[0])
    mine = scores[scores["method"] == "one"]
    assert np.trapezoid(tpr, fpr) == pytest.approx(
        roc_auc_score(mine["label"], mine["score"]), abs=0.01
    )


def test_more_methods_than_colours_get_other_dashes():
    places = [figures.place(index) for index in range(3 * figures.COLOURS)]
    assert len(set(places)) == len(places)
