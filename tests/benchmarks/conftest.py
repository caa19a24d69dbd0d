"""What the tests of the report share: its parts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.comparisons import COMPARED
from benchmarks.metrics import METRICS
from benchmarks.readings import RESULTS_SCHEMA, left_out
from benchmarks.scores import ALL_SEEDS
from pipeline import manifest
from pipeline.folds import sources


@pytest.fixture
def report_parts(small_profile):
    """What the report is made from, made up with round numbers; dct misses the cell `b`."""
    photographs = {
        "orl": {"source": "orl"}, "elsewhere": {"source": "folder", "path": "-", "use": "test"}
    }  # fmt: skip
    params, folder = small_profile(photographs=photographs, perturbations=["none", "blur"])
    rows = []
    for m, method in enumerate(params.methods):
        for h, held_out in enumerate((*params.held_outs(), "family:y", "family:x")):
            trained = params.training_generators(held_out)
            for g, generator in enumerate(("a", "b", "c", "real:elsewhere")):
                for perturbation in params.perturbations:
                    if (method, held_out, generator) == ("dct", "b", "b"):
                        continue
                    real = generator.startswith("real:")
                    value = 0.9 - 0.1 * m - 0.05 * h - (0.3 if held_out == generator else 0)
                    value -= 0.2 if perturbation == "blur" else 0
                    family = params.generators[generator].family if not real else "real"
                    row = dict.fromkeys(RESULTS_SCHEMA.names, "x") | {
                        "method": method, "held_out": held_out, "generator": generator,
                        "perturbation": perturbation, "seed": ALL_SEEDS, "seeds": 2,
                        "family": family, "round": 0, "seen": generator in trained,
                        "n_train": 80, "threshold": 0.6, "oracle_threshold": 0.5,
                        "threshold_rule": "fpr <= 0.05", "undefined": "",
                        "n_real": 40, "n_fake": 0 if real else 30 + g,
                    }  # fmt: skip
                    for name in METRICS:
                        middle = np.nan if real and name != "fpr" else value
                        middle = 0.2 * real + 0.04 if name == "fpr" else middle
                        ends = {f"{name}_low": middle - 0.03, f"{name}_high": middle + 0.03}
                        row |= {name: middle} | ends
                    rows.append(row)
    cells = pd.DataFrame(rows)
    clean = left_out(cells)
    rounds = pd.concat(clean.assign(round=n, images=120 * (n + 1)) for n in (0, 1))
    comparisons = pd.DataFrame(
        [
            {"a": "spectrum", "b": "dct", "held_out": held_out, "metric": metric, "value_a": 0.55,
             "value_b": 0.45, "difference": 0.1, "low": -0.02, "high": 0.22, "p": 0.1,
             "p_corrected": 0.1, "comparisons": 1}
            for held_out in ("mean", "a") for metric in COMPARED
        ]
    )  # fmt: skip
    # Scores of the images that lie in the manifests: a seed and a fold each, noise and a shift.
    scores, draw = [], np.random.default_rng(0)
    for method in params.methods:
        for held_out in params.generators:
            for source in ("real:orl", held_out, "real:elsewhere"):
                frame = manifest.read(folder / sources(params)[source], ["image_id", "split"])
                ids = frame[frame["split"] == "test"]["image_id"]
                logits = draw.normal(0, 2, len(ids)) + (source == held_out)
                scores.append(
                    pd.DataFrame(
                        {"image_id": ids, "label": int(source == held_out), "generator": source,
                         "method": method, "held_out": held_out, "seed": 0,
                         "score": 1 / (1 + np.exp(-logits)), "threshold": 0.5,
                         "seen": source == "real:orl"}
                    )
                )  # fmt: skip
    audit = pd.DataFrame(
        [
            ("sha256", "photographs", 0.0, 0.0, True, "hard", "no image twice"),
            ("border", "a", 0.9, 0.75, False, "soft", "AUC 0.900"),
            ("collapse", "b", 0.5, 0.05, False, "hard", "half of them alike"),
        ],
        columns=["gate", "subject", "value", "limit", "passed", "severity", "evidence"],
    )
    study = pd.DataFrame(
        [
            {"component": component, "generator": generator, "perturbation": view,
             "chi_square": 0.1 + 0.1 * g, "auc": 0.6 + 0.1 * c, "n_real": 40, "n_fake": 40,
             "n_real_test": 10, "n_fake_test": 10}
            for view in ("none", "jpeg75")
            for g, generator in enumerate(params.generators)
            for c, component in enumerate(("R", "Cb"))
        ]
    )  # fmt: skip
    timings = pd.DataFrame(
        [("spectrum", 2.0, "one CPU"), ("spectrum", 4.0, "one CPU"), ("dct", 60.0, "a GPU")],
        columns=["method", "seconds", "device"],
    )
    return {
        "params": params, "folder": folder, "cells": cells, "comparisons": comparisons,
        "scores": pd.concat(scores, ignore_index=True), "audit": audit, "study": study,
        "rounds": rounds, "timings": timings,
    }  # fmt: skip
