"""results.parquet is a pure reading of the scores."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from benchmarks import fit, matrix
from benchmarks.metrics import METRICS
from pipeline.errors import UserError


@pytest.fixture(scope="module")
def scores():
    """Scores of two methods with every held-out: noise, better where the generator was seen."""
    import pandas as pd

    rows = []
    rng = np.random.default_rng(0)
    for method in ("spectrum", "dct"):
        for held_out in ("a", "b", "c", "none"):
            for generator in ("real", "a", "b", "c", "real:elsewhere"):
                fake = generator in "abc"
                shift = (2.0 if held_out != generator else 0.7) * fake
                values = 1 / (1 + np.exp(-rng.normal(shift - 1, 1, 40)))
                for i, value in enumerate(values):
                    rows.append(
                        {
                            "image_id": f"{generator}-{i}", "label": int(fake),
                            "generator": generator, "family": "y", "method": method,
                            "held_out": held_out, "seed": 0, "perturbation": "none",
                            "score": value, "threshold": 0.6, "threshold_rule": "fpr <= 0.05",
                            "n_train": 80, "code": "c", "data": "d",
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def params(small_profile):
    return small_profile(other_reals={"elsewhere": {"path": "-", "crop": "center"}})[0]


@pytest.fixture
def results(params, scores):
    return matrix.build(params, scores)


def test_one_row_per_fit_and_generator_with_the_columns_of_the_schema(results):
    assert list(results.columns) == matrix.RESULTS_SCHEMA.names
    keys = ["method", "held_out", "generator", "perturbation", "seed"]
    assert len(results) == 2 * 4 * 4 and not results.duplicated(keys).any()
    seen = results[results["seen"]]
    assert not (seen["held_out"] == seen["generator"]).any()
    assert (results[results["held_out"] == "none"]["generator"] != "real").all()


def test_every_number_is_recomputed_from_the_scores_by_scikit_learn(results, scores):
    for _, row in results[~results["generator"].str.startswith("real:")].iterrows():
        fit_scores = scores[(scores.method == row.method) & (scores.held_out == row.held_out)]
        cell = fit_scores[fit_scores.generator.isin(["real", row.generator])]
        called = cell.score >= row.threshold
        expected = {
            "precision": sk.precision_score(cell.label, called),
            "recall": sk.recall_score(cell.label, called),
            "fpr": called[cell.label == 0].mean(),
            "accuracy": sk.accuracy_score(cell.label, called),
            "f1": sk.f1_score(cell.label, called),
            "ap": sk.average_precision_score(cell.label, cell.score),
            "auc": sk.roc_auc_score(cell.label, cell.score),
            "brier": sk.brier_score_loss(cell.label, cell.score),
        }
        for name, value in expected.items():
            assert row[name] == pytest.approx(value, abs=1e-9), name
        assert (row.n_real, row.n_fake) == (40, 40)
        for name in METRICS:
            assert row[f"{name}_low"] <= row[f"{name}_high"], name
            # Resampling adds to a calibration error: its interval may lie above the value.
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"] or name == "ece", name


def test_another_collection_has_a_false_positive_rate_and_nothing_else(results):
    others = results[results["generator"] == "real:elsewhere"]
    assert len(others) == 8 and (others["n_fake"] == 0).all() and not others["seen"].any()
    assert others["fpr"].notna().all() and others["fpr_low"].notna().all()
    rest = [f"{m}{end}" for m in METRICS if m != "fpr" for end in ("", "_low", "_high")]
    assert others[rest].isna().all(axis=None)
    assert others["undefined"].str.endswith("no fakes").all()


def test_the_order_of_the_scores_does_not_matter(params, scores, results):
    shuffled = scores.sample(frac=1, random_state=0)
    again = matrix.build(params, shuffled).set_index(["method", "held_out", "generator"])
    expected = results.set_index(["method", "held_out", "generator"])
    assert again.loc[expected.index].equals(expected)


def test_adding_a_generator_moves_no_other_number(params, scores, results):
    fewer = params.model_copy(update={"generators": {n: params.generators[n] for n in ("a", "b")}})
    part = matrix.build(fewer, scores[(scores.generator != "c") & (scores.held_out != "c")])
    kept = results[(results.generator != "c") & (results.held_out != "c")].reset_index(drop=True)
    assert part.equals(kept)


def test_headlines_are_means_and_minima_over_held_out_generators(results):
    head = matrix.headlines(results)
    cells = matrix.held_out_cells(results)
    for method in ("spectrum", "dct"):
        recall = cells[cells["method"] == method]["recall"]
        assert len(recall) == 3
        assert head[method]["recall_mean"] == pytest.approx(recall.mean())
        assert head[method]["recall_worst"] == recall.min()


def test_missing_damaged_and_foreign_scores_are_clear_errors(params, tmp_path):
    with pytest.raises(UserError, match=r"spectrum-a\.parquet not found"):
        matrix.read_scores(params, tmp_path)
    path = fit.scores_path("spectrum", "a", tmp_path)
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match="damaged"):
        matrix.read_scores(params, tmp_path)
    matrix.write_table(path, matrix.pa.table({"image_id": ["x"]}))
    with pytest.raises(UserError, match="has columns"):
        matrix.read_scores(params, tmp_path)
