"""Scores of single images: what their files hold, and where they and the models lie.

`benchmarks.fit` writes one file per method and fold, scores/<method>/<held_out>.parquet, and every
number is a reading of these. A row is one image scored by the detector of one seed: of split
`test`, under each perturbation, and, clean only, of the fold's own `valid` split, which the
threshold was set on. The detectors lie in models/<method>/<held_out>/<seed>/. In both places
`held_out` is written as `pipeline.folds.file_name` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UserError
from pipeline.folds import file_name
from pipeline.manifest import REAL
from pipeline.params import Params

SCORES = Path("scores")
MODELS = Path("models")
TEST, VALID = "test", "valid"
# The perturbation of images as they are.
CLEAN = "none"
# Libraries whose versions are shown beside results.
LIBRARIES = ("numpy", "scikit-learn", "scipy", "torch")
# The `seed` of a row that sums up all seeds, in what is made of scores.
ALL_SEEDS = -1

_name = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("label", pa.int8()),  # 1 = fake
        ("generator", _name),
        ("family", _name),
        ("identity", pa.string()),  # person of a photograph, "" where unknown
        ("split", _name),
        ("method", _name),
        ("held_out", _name),
        ("seed", pa.int64()),
        ("perturbation", _name),
        ("score", pa.float64()),  # P(fake), in [0, 1]
        ("threshold", pa.float64()),
        ("threshold_rule", _name),
        ("n_train", pa.int64()),
        ("code", _name),
        ("data", _name),
    ]
)


def scores_path(method: str, held_out: str, folder: Path = SCORES) -> Path:
    """Path of the scores of one method on one fold.

    >>> scores_path("plain", "family:dcgan").as_posix()
    'scores/plain/family-dcgan.parquet'
    """
    return folder / method / f"{file_name(held_out)}.parquet"


def model_path(method: str, held_out: str, seed: int, folder: Path = MODELS) -> Path:
    """Folder of one seed's detector.

    >>> model_path("plain", "wgan", 0).as_posix()
    'models/plain/wgan/0'
    """
    return folder / method / file_name(held_out) / str(seed)


def table(
    ids: Sequence[str],
    labels: Sequence[int],
    generators: Sequence[str],
    identities: Sequence[str],
    values: np.ndarray,
    about: Mapping[str, Any],
    params: Params,
) -> pa.Table:
    """Lay the scores of some images out as `SCHEMA` says.

    Args:
        ids: of the N images.
        labels: 1 = fake.
        generators: their generators, `real:<collection>` for photographs.
        identities: their persons, "" where unknown.
        values: float (N,), P(fake).
        about: what all rows share: the other columns of `SCHEMA` but `family`.
        params: knows the families.
    """
    families = {name: generator.family for name, generator in params.generators.items()}
    columns = {
        "image_id": ids,
        "label": labels,
        "generator": generators,
        "family": [families.get(name, REAL) for name in generators],
        "identity": identities,
        "score": values,
        **{name: [value] * len(ids) for name, value in about.items()},
    }
    return pa.table(columns).select(SCHEMA.names).cast(SCHEMA)


def read_file(path: Path, columns: Sequence[str] = SCHEMA.names, **filters: Any) -> pa.Table:
    """Read one file of scores.

    Args:
        path: see `scores_path`.
        columns: those to read.
        filters: only rows whose column has this value.

    Raises:
        UserError: it is missing, damaged or of other columns.
    """
    if not path.is_file():
        raise UserError(f"{path} not found; expected what the fit writes: run dvc repro")
    try:
        found = pq.read_schema(path).names
        if found != SCHEMA.names:
            raise UserError(
                f"{path} has columns {found}; expected {SCHEMA.names}: delete it, run dvc repro"
            )
        wanted = [(name, "==", value) for name, value in filters.items()]
        return pq.read_table(path, columns=list(columns), filters=wanted or None)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it, run dvc repro") from None


def read(params: Params, folder: Path = SCORES) -> pd.DataFrame:
    """Read the scores of every fit that `params` names.

    Raises:
        UserError: see `read_file`.
    """
    tables = [
        read_file(scores_path(method, held_out, folder))
        for method in params.methods
        for held_out in params.folds()
    ]
    return pa.concat_tables(tables).unify_dictionaries().to_pandas()
