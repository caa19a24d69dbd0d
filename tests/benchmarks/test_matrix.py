"""results.parquet is a pure reading of the scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from benchmarks import matrix
from benchmarks import scores as scores_files
from benchmarks.metrics import METRICS
from benchmarks.readings import ALL_SEEDS, RESULTS_SCHEMA, left_out, whole
from benchmarks.thresholds import threshold_by
from pipeline.errors import UserError
from pipeline.manifest import write_table

COLLECTIONS = ("real:one", "real:two")
PLAIN = {"method": "plain", "steps": 2, "batch": 8, "lr": 0.001}


@pytest.fixture(scope="module")
def scores():
    """Scores with every fold: noise, better where the generator was seen.

    Photographs of two collections in training and one for testing only. `dct` draws nothing and has
    one seed, `plain` has three.
    """
    rng = np.random.default_rng(0)
    unseen = {"a": "a", "b": "b", "c": "c", "none": "", "family:y": "ab"}
    frames = []
    for method, seed in (("dct", 0), ("plain", 0), ("plain", 1), ("plain", 2)):
        for held_out in unseen:
            rows = []
            for generator in (*COLLECTIONS, "real:elsewhere", "a", "b", "c"):
                fake = generator in "abc"
                shift = (0.7 if generator in unseen[held_out] else 2.0) * fake
                shift += 0.4 * (method == "plain") * fake
                for split, n in (("test", 40), ("valid", 30)):
                    if split == "valid" and generator in (*unseen[held_out], "real:elsewhere"):
                        continue
                    values = 1 / (1 + np.exp(-rng.normal(shift - 1, 1, n)))
                    for i, value in enumerate(values):
                        person = f"{generator}-{split}-{i // 5}" if generator == "real:one" else ""
                        rows.append(
                            {"image_id": f"{generator}-{split}-{i}", "label": int(fake),
                             "generator": generator, "family": "y", "identity": person,
                             "split": split, "score": value}
                        )  # fmt: skip
            frame = pd.DataFrame(rows)
            valid = frame[frame["split"] == "valid"]
            threshold = threshold_by(
                "fpr", valid["score"].to_numpy(), valid["label"].to_numpy(), 0.05
            )
            frames.append(
                frame.assign(
                    method=method, held_out=held_out, seed=seed, perturbation="none",
                    threshold=threshold, threshold_rule="fpr <= 0.05", n_train=80, code="c",
                    data="d",
                )
            )  # fmt: skip
    return pd.concat(frames, ignore_index=True)


@pytest.fixture
def params(small_profile):
    params = small_profile(
        methods={"dct": {"method": "dct"}, "plain": PLAIN},
    )[0]
    return params.model_copy(
        update={"matrix": params.matrix.model_copy(update={"compare": (("plain", "dct"),)})}
    )


@pytest.fixture
def built(params, scores):
    return matrix.build(params, scores)


@pytest.fixture
def results(built):
    return built[0]


def test_one_row_per_fit_and_generator_and_one_for_all_seeds(results):
    assert list(results.columns) == RESULTS_SCHEMA.names
    keys = ["method", "held_out", "generator", "perturbation", "seed"]
    # 4 folds of generators and none, 2 families; 6 columns; 1 + 1 rows of dct and 3 + 1 of plain.
    assert len(results) == (4 + 2) * 6 * (2 + 4) and not results.duplicated(keys).any()
    assert results.groupby(["method", "seed"])["seeds"].unique().explode().to_dict() == {
        ("dct", -1): 1, ("dct", 0): 1,
        ("plain", -1): 3, ("plain", 0): 1, ("plain", 1): 1, ("plain", 2): 1,
    }  # fmt: skip
    seen = results[results["seen"]]
    assert not (seen["held_out"] == seen["generator"]).any()
    assert not (seen["held_out"] == "family:" + seen["family"]).any()
    photographs = results[results["generator"].str.startswith("real:")]
    assert set(photographs[photographs["seen"]]["generator"]) == {*COLLECTIONS}
    assert set(photographs[~photographs["seen"]]["generator"]) == {"real:elsewhere"}


def test_a_family_of_one_generator_has_the_rows_of_that_generators_fold(results):
    assert set(results["held_out"]) == {"a", "b", "c", "none", "family:x", "family:y"}
    folds = results.groupby("held_out")["fold"].unique().explode().to_dict()
    assert folds.pop("family:x") == "c" and all(held == fold for held, fold in folds.items())
    alone, alike = (
        results[results["held_out"] == held].drop(columns="held_out").reset_index(drop=True)
        for held in ("c", "family:x")
    )
    assert alone.equals(alike)
    families = left_out(whole(results), "families")
    assert set(zip(families["held_out"], families["generator"], strict=True)) == {
        ("family:y", "a"), ("family:y", "b"), ("family:x", "c"),
    }  # fmt: skip


def test_the_row_of_all_seeds_is_their_mean_with_an_interval_that_is_no_narrower(results):
    keys = ["held_out", "generator"]
    plain = results[(results["method"] == "plain") & results["n_fake"].gt(0)]
    each = plain[plain["seed"] >= 0].groupby(keys)
    whole = plain[plain["seed"] == ALL_SEEDS].set_index(keys)
    for name in METRICS:
        mean = each[name].mean()
        assert np.allclose(whole.loc[mean.index, name], mean, atol=1e-12)
    # Every seed has its own threshold, and their mean is none.
    assert whole["threshold"].isna().all() and whole["oracle_threshold"].isna().all()
    dct = results[results["method"] == "dct"].groupby([*keys, "perturbation"])
    for _, (one, same) in dct.apply(lambda rows: [rows.iloc[0], rows.iloc[1]]).items():
        assert one.drop("seed").equals(same.drop("seed"))
    # What an interval holds is said: all seeds, one of several, or a method that draws nothing.
    assert set(whole["training_variance"]) == {"in"}
    assert set(plain[plain["seed"] >= 0]["training_variance"]) == {"out"}
    assert set(results[results["method"] == "dct"]["training_variance"]) == {"none"}


def test_every_number_is_recomputed_from_the_scores_by_scikit_learn(results, scores):
    rows = results[~results["generator"].str.startswith("real:") & (results["seed"] >= 0)]
    for _, row in rows.iterrows():
        fit_scores = scores[
            (scores.method == row.method)
            & (scores.held_out == row.fold)
            & (scores.seed == row.seed)
            & (scores.split == "test")
        ]
        cell = fit_scores[fit_scores.generator.isin([*COLLECTIONS, row.generator])]
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
        assert (row.n_real, row.n_fake) == (80, 40)
        for name in METRICS:
            assert 0 <= row[f"{name}_low"] <= row[name] <= row[f"{name}_high"] <= 1, name
            assert row[f"{name}_high"] - row[f"{name}_low"] > 0.01, name
        called = cell.score >= row.oracle_threshold
        assert row.oracle_recall == called[cell.label == 1].mean()
        assert row.oracle_fpr == called[cell.label == 0].mean()
        assert row.oracle_recall - row.oracle_fpr >= row.recall - row.fpr - 1e-12


def test_a_collection_has_a_false_positive_rate_and_nothing_else(results, scores):
    others = results[results["generator"].str.startswith("real:")]
    assert len(others) == 3 * 6 * 6 and (others["n_fake"] == 0).all()
    assert (others["n_real"] == 40).all() and (others["family"] == "real").all()
    assert others["fpr"].notna().all() and others["fpr_low"].notna().all()
    rest = [f"{m}{end}" for m in METRICS if m != "fpr" for end in ("", "_low", "_high")]
    assert others[rest].isna().all(axis=None)
    assert others["undefined"].str.endswith("no fakes").all()
    # A generator's row has the rate of all the photographs that were in training, together.
    keys = ["method", "held_out", "seed"]
    mine = results[results["generator"] == "b"].set_index(keys)["fpr"]
    each = others[others["seen"]].groupby(keys)["fpr"].mean()
    assert np.allclose(mine, each.loc[mine.index])


def test_a_threshold_that_is_not_that_of_the_valid_rows_is_an_error(params, scores):
    with pytest.raises(UserError, match=r"have the threshold 0\.5, and rule fpr <= 0\.05 gives"):
        matrix.build(params, scores.assign(threshold=0.5))
    with pytest.raises(UserError, match="hold no valid photograph"):
        matrix.build(params, scores[scores["split"] == "test"])


def test_the_order_of_the_scores_does_not_matter(params, scores, results):
    shuffled = scores.sample(frac=1, random_state=0)
    keys = ["method", "held_out", "generator", "seed"]
    again = matrix.build(params, shuffled)[0].set_index(keys)
    expected = results.set_index(keys)
    assert again.loc[expected.index].equals(expected)


def test_adding_a_generator_moves_no_other_number(params, scores, results):
    fewer = params.model_copy(update={"generators": {n: params.generators[n] for n in ("a", "c")}})
    left = scores[(scores.generator != "b") & ~scores.held_out.isin(["b", "family:y"])]
    part = matrix.build(fewer, left)[0]
    kept = results[(results.generator != "b") & results.held_out.isin(["a", "c", "none"])]
    part = part[part.held_out.isin(["a", "c", "none"])].reset_index(drop=True)
    assert part.equals(kept.reset_index(drop=True))


def test_headlines_are_means_and_minima_over_held_out_generators(results):
    head = matrix.headlines(results)
    cells = left_out(whole(results))
    for method in ("dct", "plain"):
        recall = cells[cells["method"] == method]["recall"]
        assert len(recall) == 3
        assert head[method]["recall_mean"] == pytest.approx(recall.mean())
        assert head[method]["recall_worst"] == recall.min()


def test_comparisons_are_differences_of_the_rows_of_results(built):
    results, compared = built
    cells = left_out(whole(results)).set_index(["method", "held_out"])
    assert set(compared["held_out"]) == {"mean", "a", "b", "c", "family:y"}
    for _, row in compared.iterrows():
        if row.held_out == "mean":
            a, b = (cells.loc[method][row.metric].mean() for method in (row.a, row.b))
        elif row.held_out.startswith("family:"):
            of = left_out(whole(results), "families")
            of = of[of["held_out"] == row.held_out].groupby("method")[row.metric].mean()
            a, b = of[row.a], of[row.b]
        else:
            a, b = (cells.loc[(method, row.held_out), row.metric] for method in (row.a, row.b))
        assert (row.value_a, row.value_b) == pytest.approx((a, b), abs=1e-12)
        assert row.difference == pytest.approx(a - b, abs=1e-12)
        assert row.low <= row.difference <= row.high and row.p <= row.p_corrected <= 1


def test_a_method_set_without_a_compared_method_leaves_that_pair_out(params, scores):
    one = params.model_copy(update={"methods": {"dct": params.methods["dct"]}})
    assert matrix.build(one, scores[scores.method == "dct"])[1].empty


def test_missing_damaged_and_foreign_scores_are_clear_errors(params, tmp_path):
    with pytest.raises(UserError, match=r"dct/a\.parquet not found"):
        scores_files.read(params, tmp_path)
    path = scores_files.scores_path("dct", "a", tmp_path)
    path.parent.mkdir()
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match="damaged"):
        scores_files.read(params, tmp_path)
    write_table(path, matrix.pa.table({"image_id": ["x"]}))
    with pytest.raises(UserError, match="has columns"):
        scores_files.read(params, tmp_path)
