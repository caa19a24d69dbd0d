"""Which cells are of images never seen, and what sums methods up."""

from __future__ import annotations

import pandas as pd
import pytest

from benchmarks import readings
from benchmarks.scores import ALL_SEEDS

# (held out, generator, family, seen): wild and real:far are for testing only.
CELLS = [
    ("a", "a", "x", False), ("a", "b", "y", True), ("a", "wild", "w", False),
    ("a", "real:one", "real", True), ("a", "real:far", "real", False),
    ("b", "a", "x", True), ("b", "b", "y", False),
    ("family:x", "a", "x", False), ("family:x", "b", "y", True),
    ("none", "a", "x", True), ("none", "b", "y", True), ("none", "wild", "w", False),
    ("none", "real:one", "real", True), ("none", "real:far", "real", False),
    ("real:one", "a", "x", True), ("real:one", "real:one", "real", False),
    ("real:one", "real:far", "real", False),
]  # fmt: skip


@pytest.fixture
def rows():
    cells = pd.DataFrame(CELLS, columns=["held_out", "generator", "family", "seen"])
    cells = cells.assign(method="m", seed=ALL_SEEDS, recall=0.5, fpr=range(len(cells)))
    blurred = cells.assign(perturbation="blur")
    return pd.concat([cells.assign(perturbation="none"), blurred, blurred.assign(seed=0)])


def names(cells):
    return list(zip(cells["held_out"], cells["generator"], strict=True))


def test_unseen_cells_are_what_a_fit_left_out_and_what_is_for_testing_only(rows):
    whole = readings.whole(rows)
    assert names(readings.left_out(whole)) == [("a", "a"), ("b", "b")]
    assert names(readings.left_out(whole, "families")) == [("family:x", "a")]
    assert names(readings.left_out(whole, "collections")) == [("real:one", "real:one")]
    assert names(readings.tested_only(whole)) == [("none", "wild")]
    assert names(readings.tested_only(whole, "collections")) == [("none", "real:far")]
    assert names(readings.unseen(whole)) == [("a", "a"), ("b", "b"), ("none", "wild")]
    both = [("real:one", "real:one"), ("none", "real:far")]
    assert names(readings.unseen(whole, "collections")) == both
    assert names(readings.unseen(whole, "families")) == [("family:x", "a")]


def test_no_cell_that_was_seen_is_unseen_and_perturbations_stay_apart(rows):
    for side in ("generators", "families", "collections"):
        found = readings.unseen(rows, side, "blur")
        assert not found["seen"].any() and set(found["perturbation"]) == {"blur"}
        assert len(found) == 2 * len(readings.unseen(readings.whole(rows), side))
    assert len(readings.whole(rows, "blur")) == len(CELLS)


def test_the_worst_cell_is_the_lowest_recall_and_the_highest_fpr(rows):
    cells = readings.left_out(readings.whole(rows)).assign(recall=[0.2, 0.7])
    assert readings.worst(cells, "recall").loc["m", "held_out"] == "a"
    assert readings.worst(cells, "fpr").loc["m", "held_out"] == "b"
    assert readings.worst(cells.assign(recall=float("nan")), "recall").empty
