"""What benchmarks/localisation.parquet holds, and its readings: nothing here looks at a picture.

`benchmarks.localise` writes it and says what a row is.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

from benchmarks.composites import CONTROL, UNTOUCHED
from pipeline.params import NONE

OUT = Path("benchmarks/localisation.parquet")
ALL = "all"
# What `deepfd detect --maps` draws, the same before it is smoothed, and what they are measured by.
OURS = ("heat_map", "evidence")
MAPS = (*OURS, "grad_cam", "centre", "random")

# pixel_auc: P(a fake pixel lies above one that is not), within a picture. iou: of the fake part and
# the places whose evidence reaches the picture's own threshold (a map without one has none).
# iou_of_area: the same for as many of the highest places as the fake part has pixels. pointing: the
# highest place is fake. called_fake: the picture as a whole is called fake.
MEASURES = ("pixel_auc", "iou", "iou_of_area", "pointing", "called_fake")

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("method", "held_out", "generator")),
        ("seen", pa.bool_()),
        *((name, pa.string()) for name in ("composite", "region", "seam", "map")),
        ("n", pa.int64()),  # pictures
        ("pairs", pa.int64()),
        ("seeds", pa.int64()),
        ("area", pa.float64()),  # share of the pixels to be found
        *((f"{name}{end}", pa.float64()) for name in MEASURES for end in ("", "_low", "_high")),
        ("data", pa.string()),
    ]
)


def over_all(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows over all regions and seams."""
    return table[(table["region"] == ALL) & (table["seam"] == ALL)]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Average over generators, per kind of composite and map, over all regions and seams.

    Returns:
        `seen`, `composite`, `map`, `generators` (how many), the mean of each metric, the lowest and
        highest `pixel_auc` of a generator, and `area`. The control is that of the detectors that
        left out a generator.
    """
    whole = over_all(table)
    control = whole["composite"].isin([CONTROL, UNTOUCHED])
    whole = whole[~control | (whole["held_out"] != NONE)]
    groups = whole.assign(seen=whole["seen"].map({True: "seen", False: "held out"}).fillna(""))
    keys = ["seen", "composite", "map"]
    means = groups.groupby(keys, sort=False)
    out = means[[*MEASURES, "area"]].mean().assign(generators=means.size())
    out["lowest"], out["highest"] = means["pixel_auc"].min(), means["pixel_auc"].max()
    return out.reset_index()
