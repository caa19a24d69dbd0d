"""Sources: how the photographs came, and whether their own codec can be seen in their pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline import manifest
from pipeline.container import LOSSY
from pipeline.gates.bands import BLOCK
from pipeline.gates.gate import SOFT, Gate, judge
from pipeline.params import Params

# Reduced by this factor or more, a JPEG's blocks are below 3 pixels and its halved chroma is whole.
REDUCED = 3.0
# Share of photographs that may come as they should not.
LIMIT = 0.05


def features(source: Mapping[str, object] | None) -> dict[str, float]:
    """Describe a photograph's container by numbers; nothing of a fake.

    A kind is one column each (`came_as: is JPEG`), since no two formats are near each other.
    """
    if not source:
        return {}
    kinds = (source["format"], f"chroma {source['subsampling']}")
    return {
        "came_as: quality": float(source["quality"] or 100),
        "came_as: log reduction": float(np.log(source["reduction"])),
        **{f"came_as: is {kind}": 1.0 for kind in kinds},
    }


def _shows(rows: pd.DataFrame) -> pd.Series:
    """Whether each photograph came in a lossy format and was reduced too little to lose that."""
    return rows["format"].isin(LOSSY) & (rows["reduction"] < REDUCED)


def periods_of(folders: Sequence[Path]) -> tuple[float, ...]:
    """Periods at which blocks may be seen, in pixels: 8, and 8 over the collections' reductions.

    Args:
        folders: manifests of the collections of photographs.

    Raises:
        UserError: a missing or damaged manifest.
    """
    found = {float(BLOCK)}
    for folder in folders:
        rows = pd.DataFrame(
            source
            for part in manifest.parts(folder)
            if "source" in part.column_names
            for source in part["source"].to_pylist()
        )
        if len(rows) and (shown := rows[_shows(rows)]["reduction"]).size:
            found.add(round(float(BLOCK / shown.median()), 2))
    return tuple(sorted(found))


def codec_gates(collections: Mapping[str, pd.DataFrame], params: Params) -> Iterator[Gate]:
    """Yield one gate per collection: no lossy format near enough to be seen, or a finish over it.

    Args:
        collections: `real:<name>` -> rows of traces, with `source`.
        params: the checked params.yaml.
    """
    for name, traces in collections.items():
        rows = pd.DataFrame(traces["source"].dropna().tolist())
        finish = params.faces.finish
        if rows.empty:
            yield judge("codec", name, 0, LIMIT, "how they came is not recorded", SOFT)
            continue
        shown = _shows(rows)
        counts = rows["format"].value_counts()
        evidence = ", ".join(f"{n} {kind}" for kind, n in counts.items())
        qualities = rows["quality"].dropna()
        if len(qualities):
            chroma = rows["subsampling"].dropna().value_counts()
            evidence += f"; quality {qualities.median():.0f} (median)"
            evidence += f", chroma {chroma.index[0]} (mostly)" if len(chroma) else ""
        evidence += f"; reduced {rows['reduction'].median():.2f} times (median); "
        if finish:
            evidence += f"{shown.sum()} keep traces of it, under one JPEG {finish.jpeg} of both"
        else:
            evidence += f"{shown.sum()} keep traces of it"
        if not finish and shown.mean() > LIMIT:
            evidence += ": set faces.finish, such as {jpeg: 90, subsampling: 420}"
        yield judge("codec", name, 0 if finish else shown.mean(), LIMIT, evidence, SOFT)
