"""docs/results/<profile>/: what it holds, and how it is read back."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import readings
from benchmarks.comparisons import COMPARISONS
from benchmarks.comparisons import SCHEMA as COMPARISONS_SCHEMA
from benchmarks.localisation import OUT as LOCALISATION
from pipeline.audit import TABLE as AUDIT
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.params import load as load_params

FOLDER = Path("docs/results")
PARAMS = "params.yaml"
PROVENANCE = "provenance.json"
AGAIN = "keep the run again: python -m benchmarks.publish keep"


@dataclass(frozen=True)
class Kept:
    """The kept results of one profile.

    Attributes:
        name: of the folder.
        params: of the run.
        results: all rows of results.parquet.
        comparisons: all rows of comparisons.parquet.
        audit: all rows of audit.parquet.
        provenance: what `benchmarks.publish.keep.provenance` says.
        localisation: all rows of localisation.parquet, None where the run made none.
    """

    name: str
    params: Params
    results: pd.DataFrame
    comparisons: pd.DataFrame
    audit: pd.DataFrame
    provenance: dict[str, Any]
    localisation: pd.DataFrame | None = None

    @property
    def whole(self) -> pd.DataFrame:
        """The clean rows that sum up all seeds."""
        return readings.whole(self.results)


def names(folder: Path = FOLDER) -> tuple[str, ...]:
    """Names of the profiles whose results are kept."""
    return tuple(sorted(path.parent.name for path in folder.glob(f"[!.]*/{PROVENANCE}")))


def read(name: str, folder: Path = FOLDER) -> Kept:
    """Read what is kept of a profile.

    Raises:
        UserError: it is not there, or damaged.
    """
    home = folder / name
    if not (home / PROVENANCE).is_file():
        known = ", ".join(names(folder)) or "none"
        raise UserError(f"{home} holds no {PROVENANCE}; kept are {known}: {AGAIN}")
    try:
        provenance = json.loads((home / PROVENANCE).read_text(encoding="utf-8"))
        comparisons, audit = (pd.read_parquet(home / p.name) for p in (COMPARISONS, AUDIT))
        places = home / LOCALISATION.name
        localisation = pd.read_parquet(places) if places.is_file() else None
    except (OSError, ValueError) as error:
        raise UserError(f"{home} is damaged ({error}); {AGAIN}") from None
    if list(comparisons.columns) != COMPARISONS_SCHEMA.names:
        raise UserError(
            f"{home / COMPARISONS.name} has columns {list(comparisons.columns)}; expected "
            f"{COMPARISONS_SCHEMA.names}: {AGAIN}"
        )
    results = readings.read(home / readings.RESULTS.name)
    params = load_params(home / PARAMS)
    return Kept(name, params, results, comparisons, audit, provenance, localisation)


def params_digest(params: Params) -> str:
    """Return the sha256 of the checked values: of the same values, whatever their layout, one."""
    text = json.dumps(params.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
