"""Anybody's detector on the test images: `deepfd benchmark --model my.py`.

`my.py` defines `predict(path) -> float`, P(fake) in [0, 1] of one picture file. It is given the
test images, and the valid photographs, which alone set its threshold by the rule of params.yaml, as
PNG files whose names and order say nothing. **It is not trained here**: what it was trained on is
not known, so `seen` is empty, `held_out` is `external`, and its rows are no cells of the
leave-one-out matrix but a line to hold beside it. They are written to benchmarks/external.parquet,
in the columns of results.parquet.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from benchmarks import scores
from benchmarks.cells import Scored, measure
from benchmarks.readings import RESULTS_SCHEMA
from benchmarks.resample import Draws
from benchmarks.thresholds import rule_name, threshold_by
from pipeline import folds
from pipeline.errors import UserError
from pipeline.folds import Images
from pipeline.images import encode_png
from pipeline.manifest import REAL, is_real, write_table
from pipeline.params import NONE, Params
from pipeline.seeds import seed_for

EXTERNAL = "external"
OUT = Path("benchmarks/external.parquet")

Predict = Callable[[str], float]


def load(path: Path) -> Predict:
    """Import `predict` from a Python file; its folder is on the import path, as if it were run.

    Raises:
        UserError: no such file, an error in it, or no `predict` in it.
    """
    if not path.is_file():
        raise UserError(f"{path} not found; expected a Python file with predict(path) -> float")
    spec = importlib.util.spec_from_file_location("deepfd_external", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is no Python file; expected one with predict(path) -> float")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{path} cannot be imported ({type(error).__name__}: {error})") from error
    finally:
        sys.path.pop(0)
    predict = getattr(module, "predict", None)
    if not callable(predict):
        raise UserError(f"{path} defines no predict(path) -> float; add one")
    return predict


def score(predict: Predict, pixels: np.ndarray, seed: int) -> np.ndarray:
    """Give each picture to `predict` as a file, in an order that says nothing.

    Args:
        predict: see the module.
        pixels: uint8 (N, H, W, C).
        seed: of the order.

    Returns:
        float64 (N,) in [0, 1], in the order of `pixels`.

    Raises:
        UserError: it failed, or said something else than a number in [0, 1].
    """
    values = np.empty(len(pixels))
    order = np.random.default_rng(seed).permutation(len(pixels))
    with tempfile.TemporaryDirectory() as folder:
        bar = tqdm(order, unit=" pictures", disable=not sys.stderr.isatty())
        for number, place in enumerate(bar):
            path = Path(folder, f"{number:06}.png")
            path.write_bytes(encode_png(pixels[place]))
            try:
                answer = predict(str(path))
                values[place] = float(answer)
            except Exception as error:
                raise UserError(
                    f"predict failed on picture {number} of {len(pixels)} ({type(error).__name__}: "
                    f"{error}); expected P(fake) of a PNG of shape {pixels.shape[1:]}"
                ) from error
            if not 0 <= values[place] <= 1:
                raise UserError(
                    f"predict said {answer!r}; expected P(fake), a number in [0, 1] (of logits, "
                    "return the sigmoid)"
                )
            path.unlink()
    return values


def rows(params: Params, name: str, predict: Predict, code: str, data: str) -> pd.DataFrame:
    """Score the test images and measure every generator and collection.

    Args:
        params: the checked params.yaml.
        name: of the detector, the `method` of its rows.
        predict: see the module.
        code: digest of the file it is from.
        data: digest of the data.

    Returns:
        Rows of results.parquet, `seed` -1 (there is one).

    Raises:
        UserError: see `score`; or the manifests cannot be read.
    """
    fold = folds.load(params).fold(NONE)
    valid = fold.valid.subset(fold.valid.labels == 0)
    n = len(fold.test)
    values = score(
        predict,
        np.concatenate([fold.test.pixels, valid.pixels]),
        seed_for(params.seed, EXTERNAL),
    )
    rule = params.matrix.threshold
    threshold = threshold_by(rule.rule, values[n:], valid.labels, rule.fpr)
    about = {
        "method": name,
        "held_out": EXTERNAL,
        "seed": 0,
        "perturbation": scores.CLEAN,
        "threshold": threshold,
        "threshold_rule": rule_name(rule.rule, rule.fpr),
        "n_train": None,
        "code": code,
        "data": data,
    }

    def laid_out(images: Images, given: np.ndarray, split: str) -> pd.DataFrame:
        return scores.table(
            images.ids, images.labels, images.generators, images.identities, given,
            about | {"split": split}, params,
        ).to_pandas()  # fmt: skip

    fits = [
        Scored(
            laid_out(fold.test, values[:n], scores.TEST),
            laid_out(valid, values[n:], scores.VALID),
            Draws(params.matrix.bootstrap, params.seed),
        )
    ]
    found = []
    for source in sorted(fits[0].sources, key=is_real):
        measured, *_ = measure(fits, source, True)
        family = REAL if is_real(source) else params.generators[source].family
        said = {k: about[k] for k in ("method", "held_out", "perturbation", "threshold_rule")}
        said |= {"generator": source, "fold": EXTERNAL, "family": family, "seen": None}
        said |= {"round": params.round, "n_train": None, "code": code, "data": data}
        found += [said | row for row in measured if row["seed"] == scores.ALL_SEEDS]
    return pa.Table.from_pylist(found, RESULTS_SCHEMA).to_pandas()


def add(table: pd.DataFrame, out: Path = OUT) -> None:
    """Add the rows of one detector to those of others; an earlier run of the same is replaced.

    Raises:
        UserError: what is there is no such table.
    """
    if out.is_file():
        try:
            others = pq.read_table(out).cast(RESULTS_SCHEMA).to_pandas()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UserError(f"{out} holds no such rows ({error}); delete it") from None
        others = others[others["method"] != table["method"].iloc[0]]
        table = pd.concat([others, table], ignore_index=True) if len(others) else table
    rows_ = pa.Table.from_pandas(table, RESULTS_SCHEMA, preserve_index=False)
    write_table(out, rows_)


def described(table: pd.DataFrame) -> str:
    """Say the rows of one detector as lines."""

    def words(row: Any, metric: str) -> str:
        return f"{row[metric]:.3f} ({row[f'{metric}_low']:.3f}-{row[f'{metric}_high']:.3f})"

    lines = []
    for _, row in table.iterrows():
        if is_real(row["generator"]):
            said = f"called fake {words(row, 'fpr')}, n = {row['n_real']}"
        else:
            said = f"recall {words(row, 'recall')}, AUC {words(row, 'auc')}, n = {row['n_fake']}"
        lines.append(f"{row['generator']}: {said}")
    return "\n".join(lines)


def run(params: Params, model: Path, name: str | None = None, out: Path = OUT) -> str:
    """Benchmark one file, add its rows to `out` and say what was found.

    Raises:
        UserError: see `load`, `rows` and `add`.
    """
    name = name or model.stem
    if name in params.methods:
        raise UserError(f"the name {name!r} is that of a method; choose another with --name")
    predict = load(model)
    code = hashlib.sha256(model.read_bytes()).hexdigest()
    table = rows(params, name, predict, code, folds.data_digest(params))
    add(table, out)
    return (
        f"{name}, not trained here: what it was trained on, and so whether it has seen any of "
        f"these generators, is not known. Threshold {table['threshold'].iloc[0]:.4g} by rule "
        f"{table['threshold_rule'].iloc[0]} on the valid photographs.\n"
        f"{described(table)}\n{len(table)} rows in {out}, to hold beside results.parquet"
    )
