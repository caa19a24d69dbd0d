"""Readings of the table about where."""

import pandas as pd
import pytest

from benchmarks import localisation
from benchmarks.composites import CONTROL, FAKE_IN


def test_the_summary_averages_over_generators_and_keeps_the_control_beside_them():
    row = {
        "region": "all", "seam": "all", "map": "evidence", "seen": False, "composite": FAKE_IN,
        "area": 0.2, **dict.fromkeys(localisation.MEASURES, 0.5),
    }  # fmt: skip
    rows = [
        row | {"held_out": "a", "generator": "a", "pixel_auc": 0.9},
        row | {"held_out": "b", "generator": "b", "pixel_auc": 0.7},
        row | {"held_out": "b", "generator": "b", "pixel_auc": 0.1, "region": "eyes"},
        row | {"held_out": "a", "generator": "", "composite": CONTROL, "seen": None},
        row | {"held_out": "none", "generator": "", "composite": CONTROL, "seen": None,
               "pixel_auc": 0.0},
    ]  # fmt: skip
    found = localisation.summary(pd.DataFrame(rows)).set_index(["seen", "composite"])
    assert found.loc[("held out", FAKE_IN), "pixel_auc"] == pytest.approx(0.8)
    assert tuple(found.loc[("held out", FAKE_IN), ["lowest", "highest", "generators"]]) == (
        0.7, 0.9, 2
    )  # fmt: skip
    assert found.loc[("", CONTROL), "pixel_auc"] == 0.5
