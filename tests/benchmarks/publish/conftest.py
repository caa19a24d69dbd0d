"""A run of made-up scores, whose results the real matrix makes, kept in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml

from benchmarks import matrix
from benchmarks.comparisons import SCHEMA as COMPARISONS_SCHEMA
from benchmarks.composites import CONTROL, FAKE_IN, REAL_IN, UNTOUCHED
from benchmarks.localisation import MAPS, MEASURES, SCHEMA
from benchmarks.localisation import OUT as LOCALISATION
from benchmarks.publish import artefact
from benchmarks.readings import RESULTS_SCHEMA
from benchmarks.thresholds import threshold_by
from pipeline import params as params_module
from pipeline.gates.gate import SOFT, judge, table_of
from pipeline.manifest import write_table

ROOT = Path(__file__).parents[3]
PHOTOGRAPHS = {
    "near": {"source": "folder", "path": "near"},
    "other": {"source": "folder", "path": "other"},
    "far": {"source": "folder", "path": "far", "use": "test"},
}
SHORT = {"steps": 2, "batch": 8, "lr": 0.001}
# How far the fakes are from the photographs: seen, never seen.
METHODS = {"deepfd": (2.0, 0.5), "plain": (2.0, 0.8), "dct": (3.0, 2.5)}


def values(**blocks):
    """The values of a params.yaml with two generators of a family, one alone, and a wild one."""
    found = yaml.safe_load((ROOT / "params.yaml").read_text())
    entry = {"adapter": "dcgan", "weights": "-", "images": 40}
    generators = {n: entry | {"family": "x" if n == "c" else "y"} for n in "abc"}
    del found["method_sets"]
    return (
        found
        | {
            "profile": "small",
            "photographs": PHOTOGRAPHS,
            "generators": generators | {"wild": entry | {"family": "w", "use": "test"}},
            "methods": {
                "deepfd": {"method": "deepfd", **SHORT},
                "plain": {"method": "plain", **SHORT},
                "dct": {"method": "dct"},
            },
            "fit": {"seeds": [0, 1]},
            "matrix": found["matrix"] | {"bootstrap": 50, "compare": [["deepfd", "plain"]]},
        }
        | blocks
    )


def scores(params, strengths=METHODS, draw=0):
    """Scores of every fold and seed: noise, and a shift of the fakes."""
    rng, frames = np.random.default_rng(draw), []
    for method, (seen, unseen) in strengths.items():
        for held_out in params.folds():
            trained = params.training(held_out)
            for seed in params.fit.seeds[: 1 if method == "dct" else None]:
                rows = []
                for name in (*params.collections, *params.generators):
                    fake = not name.startswith("real:")
                    shift = (seen if name in trained else unseen) if fake else 0.0
                    shift += 0.7 * (name == "real:far")
                    for split, n in (("test", 40), ("valid", 30)):
                        if split == "valid" and name not in trained:
                            continue
                        family = params.generators[name].family if fake else "real"
                        found = 1 / (1 + np.exp(-rng.normal(shift - 1, 1, n)))
                        rows += [
                            {"image_id": f"{name}-{split}-{i}", "label": int(fake), "score": score,
                             "generator": name, "family": family, "identity": "", "split": split}
                            for i, score in enumerate(found)
                        ]  # fmt: skip
                frame = pd.DataFrame(rows)
                valid = frame[frame["split"] == "valid"]
                threshold = threshold_by(
                    "fpr", valid["score"].to_numpy(), valid["label"].to_numpy(), 0.05
                )
                frames.append(
                    frame.assign(
                        method=method, held_out=held_out, seed=seed, perturbation="none",
                        threshold=threshold, threshold_rule="fpr <= 0.05", n_train=80,
                        code=f"code of {method}", data="d",
                    )
                )  # fmt: skip
    return pd.concat(frames, ignore_index=True)


PROVENANCE = {
    "profile": "small", "commit": "0123456789abcdef" * 2, "date": "2026-01-02",
    "command": "make benchmark PROFILE=small", "params_sha256": "-", "data_sha256": "d",
    "machine": {"cpu": "a CPU", "cores": 2, "gpu": "none"},
    "versions": {"python": "3.12.0", "torch": "2.0"},
    "fits": {"dct": {"fits": 9, "seconds_median": 1.5, "seconds_total": 14.0, "device": "CPU"}},
}  # fmt: skip


def audit_of(params):
    """A table of the audit with a made-up AUC of each probe on each generator, and between two."""
    subjects = [*params.generators, "real:near and real:other"]
    return table_of(
        judge(probe, subject, 0.5 + 0.01 * place + 0.1 * number, 0.75, "-", SOFT)
        for place, subject in enumerate(subjects)
        for number, probe in enumerate(("bands", "grid", "blockiness", "border"))
    )


def write_kept(home, found, results, comparisons):
    """Write a folder of kept results."""
    checked = params_module.parse(found)
    home.mkdir(parents=True)
    (home / "params.yaml").write_text(yaml.safe_dump(found, sort_keys=False))
    about = PROVENANCE | {"params_sha256": artefact.params_digest(checked)}
    (home / "provenance.json").write_text(json.dumps(about))
    for name, rows, schema in (
        ("results", results, RESULTS_SCHEMA),
        ("comparisons", comparisons, COMPARISONS_SCHEMA),
    ):
        table = pa.Table.from_pandas(rows, schema, preserve_index=False)
        write_table(home / f"{name}.parquet", table)
    write_table(home / "audit.parquet", audit_of(checked))


@pytest.fixture(scope="session")
def built():
    """Params, results and comparisons of the made-up run."""
    params = params_module.parse(values())
    return params, *matrix.build(params, scores(params))


@pytest.fixture
def root(built, tmp_path):
    """A folder whose docs/results has the profile `small`."""
    write_kept(tmp_path / artefact.FOLDER / "small", values(), *built[1:])
    return tmp_path


@pytest.fixture
def kept(root):
    return artefact.read("small", root / artefact.FOLDER)


def located_rows():
    """A made-up table: a row per detector, generator, picture and map, no two values equal."""
    found = []

    def row(held_out, generator, seen, composite, which, **more):
        values = {}
        for number, measure in enumerate(MEASURES):
            value = 0.2 + 0.001 * len(found) + 0.1 * number
            values |= {measure: value, f"{measure}_low": value - 0.05,
                       f"{measure}_high": value + 0.05}  # fmt: skip
        found.append(
            {"method": "deepfd", "held_out": held_out, "generator": generator, "seen": seen,
             "composite": composite, "region": "all", "seam": "all", "map": which, "n": 64,
             "pairs": 8, "seeds": 2, "area": 0.25, "data": "d"} | values | more
        )  # fmt: skip

    for which in MAPS:
        for name in "abc":
            for composite in (FAKE_IN, REAL_IN):
                row("none", name, True, composite, which)
                row(name, name, False, composite, which)
            # Another region: in no mean.
            row(name, name, False, FAKE_IN, which, region="eyes", pixel_auc=0.0)
        for held_out in ("none", *"abc"):
            for composite in (CONTROL, UNTOUCHED):
                row(held_out, "", None, composite, which)
    return pd.DataFrame(found)


@pytest.fixture
def located(root):
    """What is kept of a run, with such a table."""
    home = root / artefact.FOLDER / "small"
    write_table(
        home / LOCALISATION.name, pa.Table.from_pandas(located_rows(), SCHEMA, preserve_index=False)
    )
    return artefact.read("small", root / artefact.FOLDER)
