"""The tables about where say what localisation.parquet says."""

from __future__ import annotations

from benchmarks.localisation import MEASURES
from benchmarks.publish import places

PICTURES = ("fake_in_photograph", "photograph_in_fake")
CONTROLS = ("photograph_in_photograph", "untouched_photograph")


def lines_of(text):
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def test_pictures_with_fakes_seen_and_held_out_then_the_controls(located):
    table = located.localisation
    table = table[table["region"] == "all"]
    found = lines_of(places.localisation(located))
    assert [line["its generator in training"] for line in found] == [
        "seen", "seen", "held out", "held out", "none in it", "none in it",
    ]  # fmt: skip
    expected = [(p, s) for s in (True, False) for p in PICTURES] + [(c, None) for c in CONTROLS]
    for line, (composite, seen) in zip(found, expected, strict=True):
        mine = table[table["composite"] == composite]
        # Of the controls those of the detectors that left a generator out.
        mine = mine[mine["held_out"] != "none"] if seen is None else mine[mine["seen"] == seen]
        means = mine.groupby("map")[[*MEASURES]].mean()
        assert line["picture"] == places.PICTURES[composite]
        assert line["map"].startswith(f"{means.loc['heat_map', 'pixel_auc']:.2f} (")
        assert line["Grad-CAM"] == f"{means.loc['grad_cam', 'pixel_auc']:.2f}"
        assert line["centre prior"] == f"{means.loc['centre', 'pixel_auc']:.2f}"
        assert line["not smoothed"] == f"{means.loc['evidence', 'pixel_auc']:.2f}"
        assert line["pointing"] == f"{means.loc['heat_map', 'pointing']:.2f} (0.25)"
        assert line["called fake"] == f"{means.loc['heat_map', 'called_fake']:.2f}"


def test_each_generator_has_its_interval(located):
    table = located.localisation
    found = {line["generator"]: line for line in lines_of(places.localisation_cells(located))}
    assert list(found) == ["`a`", "`b`", "`c`"]
    for name in "abc":
        (row,) = table[
            (table["held_out"] == name) & (table["generator"] == name)
            & (table["composite"] == PICTURES[0]) & (table["map"] == "heat_map")
            & (table["region"] == "all")
        ].to_dict("records")  # fmt: skip
        cell = found[f"`{name}`"][f"{places.PICTURES[PICTURES[0]]}, left out"]
        low, high = (f"{row[f'pixel_auc_{end}']:.2f}" for end in ("low", "high"))
        assert cell == f"{row['pixel_auc']:.2f} ({low}–{high})"


def test_a_run_without_it_says_so(kept):
    assert kept.localisation is None
    assert places.localisation(kept) == places.localisation_cells(kept) == places.NOT_MEASURED
