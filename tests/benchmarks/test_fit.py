"""One fit: what it reads, what it writes, and what a kill leaves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from benchmarks import fit, matrix
from benchmarks import scores as scores_files
from benchmarks.thresholds import threshold_by
from pipeline import audit, folds, manifest
from pipeline.errors import UserError
from pipeline.params import Method

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(small_profile, tmp_path, monkeypatch):
    """A folder with manifests, as stages find it."""
    monkeypatch.chdir(tmp_path)
    return small_profile()[0]


def run(params, method="spectrum", held_out="c", data="d"):
    fit.run(params, method, held_out, data)
    return pq.read_table(fit.scores_path(method, held_out)).to_pandas()


@pytest.mark.parametrize("held_out", ["c", "none", "family:y"])
def test_every_test_image_is_scored_once_and_nothing_else(project, held_out):
    scores = run(project, held_out=held_out)
    fold = folds.load(project).fold(held_out)
    test, valid = (scores[scores["split"] == split] for split in ("test", "valid"))
    assert sorted(test["image_id"]) == sorted(fold.test.ids)
    # Those that the threshold was set on, which resamples set anew.
    assert sorted(valid["image_id"]) == sorted(fold.valid.ids)
    assert len(test) + len(valid) == len(scores)
    assert set(scores["held_out"]) == {held_out} and set(scores["perturbation"]) == {"none"}
    assert (scores["label"] == (scores["generator"] != "real")).all()
    assert dict(zip(scores["generator"], scores["family"], strict=True)) == {
        "real": "real", "a": "y", "b": "y", "c": "x",
    }  # fmt: skip


def test_threshold_is_that_of_the_valid_split_of_the_training_generators(project):
    scores = run(project)
    folder = fit.MODELS / "spectrum/c/0"
    facts = json.loads((folder / "threshold.json").read_text())
    valid = folds.load(project).fold("c").valid
    model = fit.load_method("spectrum").load(folder)
    expected = threshold_by("fpr", model.score(valid.pixels), valid.labels, 0.05)
    assert facts["threshold"] == expected == scores["threshold"].unique().item()
    # Ten photographs cannot tell 5 %: that is said, and the threshold is above all of them.
    assert facts["valid_fpr"] == 0 and facts["note"].startswith("10 valid photographs are too few")
    # The scores are those of the saved model.
    test = folds.load(project).fold("c").test
    test_scores = scores[scores["split"] == "test"]["score"]
    assert np.array_equal(test_scores, model.score(test.pixels))
    assert np.array_equal(scores[scores["split"] == "valid"]["score"], model.score(valid.pixels))


def test_reads_name_what_fit_selection_and_threshold_were_given(project):
    run(project)
    reads = json.loads((fit.MODELS / "spectrum/c/0/reads.json").read_text())
    fold = folds.load(project).fold("c")
    assert reads["fit"]["digest"] == folds.ids_digest(fold.train.ids)
    assert reads["fit"]["counts"] == {name: {"train": 20} for name in ("a", "b", "real")}
    for step in ("selection", "threshold"):
        assert reads[step]["digest"] == folds.ids_digest(fold.valid.ids)
        assert reads[step]["counts"] == {name: {"valid": 10} for name in ("a", "b", "real")}


def test_a_fit_leaves_how_long_it_took_and_on_what(project):
    run(project)
    timing = json.loads((fit.MODELS / "spectrum/c/0/timing.json").read_text())
    assert 0 < timing["seconds"] < 60 and timing["device"] == fit.device()


def test_the_same_inputs_give_the_same_bytes(project):
    run(project)
    path = fit.scores_path("spectrum", "c")
    before = path.read_bytes()
    fit.shutil.rmtree(fit.MODELS)
    path.unlink()
    run(project)
    assert path.read_bytes() == before


class Drawing:
    """A real detector whose score depends on its seed: one that draws."""

    fits = 0

    def __init__(self, seed):
        self.seed = seed

    @classmethod
    def fit(cls, train, valid, options, seed, log=None, finish=None):
        cls.fits += 1
        return cls(seed)

    def score(self, pixels):
        return np.random.default_rng(self.seed % 2**32).random(len(pixels))

    def save(self, folder):
        manifest.write_atomic(folder / "seed.json", str(self.seed).encode())


@pytest.fixture
def drawing(monkeypatch):
    Drawing.fits = 0
    monkeypatch.setattr(fit, "load_method", lambda name: Drawing)
    return Drawing


def test_families_of_two_or_more_are_fitted_and_what_was_of_others_goes(project):
    fit.run_families(project, "spectrum", "d")
    path = fit.scores_path("spectrum", "family:y")
    assert path == fit.SCORES / "spectrum/families/y.parquet"
    scores = pq.read_table(path).to_pandas()
    assert set(scores["held_out"]) == {"family:y"}
    assert [one.name for one in path.parent.iterdir()] == ["y.parquet"]
    assert [one.name for one in (fit.MODELS / "spectrum/families").iterdir()] == ["y"]
    # Each generator a family of its own: each is left out where it is.
    alone = {n: g.model_copy(update={"family": n}) for n, g in project.generators.items()}
    fit.run_families(project.model_copy(update={"generators": alone}), "spectrum", "d")
    assert not list(path.parent.iterdir()) and not list(
        (fit.MODELS / "spectrum/families").iterdir()
    )


def test_every_fold_that_the_matrix_and_the_audit_ask_for_is_fitted(project):
    for held_out in project.folds():
        if held_out.startswith("family:"):
            fit.run_families(project, "spectrum", "d")
        else:
            run(project, held_out=held_out)
    run_of = project.model_copy(update={"methods": {"spectrum": project.methods["spectrum"]}})
    scores = scores_files.read(run_of)
    results, _ = matrix.build(run_of, scores)
    assert set(results["held_out"]) == {"a", "b", "c", "none", "family:x", "family:y"}
    assert all(gate.passed for gate in audit.audit_reads(run_of))


def with_seeds(params, *seeds):
    return params.model_copy(update={"fit": params.fit.model_copy(update={"seeds": seeds})})


def test_a_method_that_draws_is_fitted_with_every_seed_and_others_once(project, drawing):
    scores = run(with_seeds(project, 0, 1, 2))
    assert list(scores["seed"].unique()) == [0, 1, 2] and drawing.fits == 3
    assert scores.groupby("seed")["score"].first().nunique() == 3


def test_a_method_that_draws_nothing_has_one_seed_and_others_their_own_or_all(project):
    params = with_seeds(project, 4, 5)
    net = {"contrastive_steps": 1, "classifier_steps": 1, "batch": 4, "lr": 0.1}
    blocks = {
        "spectrum": {"method": "spectrum"},
        "deepfd": {"method": "deepfd", **net},
        "once": {"method": "deepfd", **net, "seeds": [7]},
    }
    methods = TypeAdapter(dict[str, Method]).validate_python(blocks)
    params = params.model_copy(update={"methods": methods})
    seeds = {name: fit.seeds_of(params, name) for name in blocks}
    assert seeds == {"spectrum": (4,), "deepfd": (4, 5), "once": (7,)}


def test_a_kill_loses_at_most_the_seed_in_hand(project, drawing, monkeypatch):
    params = with_seeds(project, 0, 1, 2)
    undisturbed = run(params)
    fit.shutil.rmtree(fit.MODELS)
    fit.scores_path("spectrum", "c").unlink()
    drawing.fits = 0

    real = fit.write_table

    def killed(path, table):
        if "/.1.tmp/" in str(path):
            raise KeyboardInterrupt
        real(path, table)

    monkeypatch.setattr(fit, "write_table", killed)
    with pytest.raises(KeyboardInterrupt):
        run(params)
    assert not fit.scores_path("spectrum", "c").exists()
    assert {p.name for p in (fit.MODELS / "spectrum/c").iterdir()} == {"0", ".1.tmp"}
    monkeypatch.setattr(fit, "write_table", real)
    assert run(params).equals(undisturbed)
    # Seed 0 was kept: 2 fits before the kill, 2 after.
    assert drawing.fits == 4
    assert {p.name for p in (fit.MODELS / "spectrum/c").iterdir()} == {"0", "1", "2"}


def test_a_seed_is_kept_only_as_long_as_its_recipe_holds(project, drawing):
    run(with_seeds(project, 0, 1))
    run(with_seeds(project, 0, 1))
    assert drawing.fits == 2
    run(with_seeds(project, 0, 1), data="other data")
    assert drawing.fits == 4
    # A seed that params no longer name is gone.
    scores = run(with_seeds(project, 1), data="other data")
    assert drawing.fits == 4 and set(scores["seed"]) == {1}
    assert [p.name for p in (fit.MODELS / "spectrum/c").iterdir()] == ["1"]


@pytest.mark.parametrize("bad", [np.nan, 1.5, -0.1])
def test_scores_that_are_no_probabilities_stop_the_run(project, drawing, monkeypatch, bad):
    monkeypatch.setattr(drawing, "score", lambda self, pixels: np.full(len(pixels), bad))
    with pytest.raises(UserError, match="expected one P"):
        run(project)
    assert not fit.SCORES.exists()


def test_unknown_names_are_errors_that_list_the_known(project):
    with pytest.raises(UserError, match="'oracle' is unknown; expected one of spectrum, dct"):
        run(project, method="oracle")
    with pytest.raises(UserError, match="'d' is unknown; expected one of none, a, b, c"):
        run(project, held_out="d")
