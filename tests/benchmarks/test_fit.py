"""One fit: what it reads, what it writes, and what a kill leaves."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from pydantic import TypeAdapter

from benchmarks import fit, matrix, workers
from benchmarks import scores as scores_files
from benchmarks.methods import base
from benchmarks.thresholds import threshold_by
from pipeline import audit, folds, manifest
from pipeline.errors import UserError
from pipeline.params import Method
from pipeline.seeds import seed_for

SECONDS = 60

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(small_profile, tmp_path, monkeypatch):
    """A folder with manifests, as stages find it."""
    monkeypatch.chdir(tmp_path)
    return small_profile()[0]


def run(params, method="spectrum", held_out="c", data="d"):
    fit.Run(params, method, data).fold(held_out)
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
    assert (scores["label"] == (scores["generator"] != "real:orl")).all()
    assert dict(zip(scores["generator"], scores["family"], strict=True)) == {
        "real:orl": "real", "a": "y", "b": "y", "c": "x",
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
    assert reads["fit"]["counts"] == {name: {"train": 20} for name in ("a", "b", "real:orl")}
    for step in ("selection", "threshold"):
        assert reads[step]["digest"] == folds.ids_digest(fold.valid.ids)
        assert reads[step]["counts"] == {name: {"valid": 10} for name in ("a", "b", "real:orl")}


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


class Drawing(base.Method):
    """A real detector whose score depends on its seed: one that draws."""

    fits = 0

    def __init__(self, seed):
        self.seed = seed

    @classmethod
    def fit(cls, train, valid, options, seed, log=None, crop="center", finish=None):
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


def names_in(folder):
    """What lies in a folder."""
    return {path.name for path in folder.iterdir()}


def test_what_was_of_folds_that_are_no_more_goes(project):
    every = fit.Run(project, "spectrum", "d")
    for held_out in project.folds():
        every.fold(held_out)
    scores = pq.read_table(fit.scores_path("spectrum", "family:y")).to_pandas()
    assert set(scores["held_out"]) == {"family:y"}
    models, found = fit.MODELS / "spectrum", fit.SCORES / "spectrum"
    folds_of = {"none", "a", "b", "c", "family-y"}
    assert names_in(models) == folds_of
    assert names_in(found) == {f"{name}.parquet" for name in folds_of}

    # Folds that there are lose nothing.
    def everything():
        return {p: p.read_bytes() for home in (models, found) for p in home.rglob("*.*")
                if p.is_file()}  # fmt: skip

    before = everything()
    every.tidy()
    assert everything() == before
    # A generator fewer, of which a family of one is left.
    left = {name: project.generators[name] for name in ("a", "c")}
    fit.Run(project.model_copy(update={"generators": left}), "spectrum", "d").tidy()
    kept = {"none", "a", "c"}
    assert names_in(models) == kept and names_in(found) == {f"{name}.parquet" for name in kept}
    # What was kept is whole, seeds and all.
    after = everything()
    assert after and all(before[path] == content for path, content in after.items())
    assert set(after) == {
        p for p in before if not {"b", "b.parquet", "family-y", "family-y.parquet"} & {*p.parts}
    }


def test_places_of_held_out_collections_and_pairs_are_tidied(small_profile, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photographs = {name: {"source": "folder", "path": "-"} for name in ("here", "there")}
    together, _ = small_profile(
        count=4, photographs=photographs, fit={"seeds": [0], "together": True}
    )
    alone = together.fit.model_copy(update={"together": False})
    apart = together.model_copy(update={"fit": alone})
    # Places come from names alone: nothing needs to be fitted.
    for held_out in together.folds():
        scores_files.model_path("spectrum", held_out, 0).mkdir(parents=True)
        path = fit.scores_path("spectrum", held_out)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    pairs = {f"{name}-real-{one}" for name in "abc" for one in photographs}
    places = {"real-here", "real-there", "family-y"}
    models = fit.MODELS / "spectrum"
    assert names_in(models) == {"none", "a", "b", "c"} | places | pairs
    fit.Run(apart, "spectrum", "d").tidy()
    assert names_in(models) == {"none", "a", "b", "c"} | places
    found = {name.removesuffix(".parquet") for name in names_in(fit.SCORES / "spectrum")}
    assert found == names_in(models)
    assert all((models / fit.file_name(held_out) / "0").is_dir() for held_out in apart.folds())


def test_every_fold_that_the_matrix_and_the_audit_ask_for_is_fitted(project):
    every = fit.Run(project, "spectrum", "d")
    for held_out in project.folds():
        every.fold(held_out)
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
    net = {"steps": 1, "batch": 4, "lr": 0.1}
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


# What differs from one fit to the next of the same recipe.
TIMES = {"timing.json"}


def made(*homes):
    """Bytes of everything that fits left, without how long they took."""
    return {
        path.as_posix(): path.read_bytes()
        for home in homes
        for path in sorted(home.rglob("*"))
        if path.is_file() and path.name not in TIMES
    }


@pytest.fixture
def one_thread():
    """What a worker computes with; a fit on two threads adds up in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


NET = {"widths": [4], "crop": 8, "steps": 3, "batch": 8, "lr": 0.01, "treatment": {}}


@pytest.mark.parametrize(
    "options", [{"method": "srm"}, {"method": "deepfd", **NET}], ids=lambda one: one["method"]
)
def test_two_workers_give_the_same_bytes_as_one_fit_after_the_other(
    project, monkeypatch, one_thread, options
):
    methods = TypeAdapter(dict[str, Method]).validate_python({"one": options})
    params = with_seeds(project, 0, 1).model_copy(update={"methods": methods})
    held_outs = ("c", "none", "family:y")

    def fitted(several):
        monkeypatch.setenv(workers.WORKERS, str(several))
        every = fit.Run(params, "one", "d")
        every.ahead(held_outs)
        ahead = made(fit.MODELS) if fit.MODELS.exists() else {}
        for held_out in held_outs:
            every.fold(held_out)
        found = made(fit.MODELS, fit.SCORES)
        fit.shutil.rmtree(fit.MODELS)
        fit.shutil.rmtree(fit.SCORES)
        return ahead, found

    nothing, alone = fitted(1)
    ahead, together = fitted(2)
    assert not nothing and together == alone
    # All of it had been fitted by the workers: `fold` gathered the scores alone.
    assert ahead == {path: bytes for path, bytes in alone.items() if path.startswith("models")}
    seeds = len(fit.seeds_of(params, "one"))
    assert sum(path.endswith("recipe.json") for path in ahead) == len(held_outs) * seeds


@pytest.mark.parametrize("several", [1, 2])
def test_networks_trained_as_one_are_those_of_one_fit_after_the_other(
    project, monkeypatch, one_thread, several
):
    """Five fits, two at a time as one network: files alike, scores equal up to rounding."""
    monkeypatch.setenv("DEEPFD_PRECISION", "fp32")
    methods = TypeAdapter(dict[str, Method]).validate_python({"one": {"method": "deepfd", **NET}})
    params = with_seeds(project, 0, 1).model_copy(update={"methods": methods})
    held_outs, left = ("c", "none", "family:y"), ("none", 1)

    def fitted(stack):
        monkeypatch.setenv(workers.STACK, str(stack))
        monkeypatch.setenv(workers.WORKERS, str(several))
        fit.Run(params, "one", "d").ahead(held_outs)
        made_ahead = len(list(fit.MODELS.rglob("recipe.json"))) if fit.MODELS.is_dir() else 0
        for held_out in held_outs:
            fit.Run(params, "one", "d").fold(held_out)
        tables = {h: pq.read_table(fit.scores_path("one", h)).to_pandas() for h in held_outs}
        return made_ahead, tables, {path for path in made(fit.MODELS)}

    _, alone, files = fitted(1)
    # What is there already stays as it is, and is no part of a stack.
    for held_out in held_outs:
        for seed in (0, 1):
            if (held_out, seed) != left:
                fit.shutil.rmtree(fit.MODELS / "one" / fit.file_name(held_out) / str(seed))
    kept = made(fit.MODELS)
    ahead, together, same_files = fitted(2)
    assert ahead == 6 and same_files == files
    assert kept.items() <= made(fit.MODELS).items()
    for held_out, table in alone.items():
        other = together[held_out]
        pd.testing.assert_frame_equal(
            table.drop(columns=["score", "threshold"]), other.drop(columns=["score", "threshold"])
        )
        np.testing.assert_allclose(table["score"], other["score"], atol=5e-3)
    timing = json.loads((fit.MODELS / "one/c/0/timing.json").read_text())
    assert 0 < timing["seconds"] < 60


def test_a_seed_that_a_kill_left_over_is_fitted_as_its_neighbours_were(project, monkeypatch):
    """In a worker, on one thread, though it is alone by then: the same bytes."""
    methods = TypeAdapter(dict[str, Method]).validate_python({"one": {"method": "deepfd", **NET}})
    params = with_seeds(project, 0, 1).model_copy(update={"methods": methods})
    monkeypatch.setenv(workers.WORKERS, "2")
    fit.Run(params, "one", "d").ahead(["c"])
    undisturbed = made(fit.MODELS)
    fit.shutil.rmtree(fit.MODELS / "one/c/1")
    here = []
    monkeypatch.setattr(fit, "fit_model", lambda *args, real=fit.fit_model: (
        here.append((os.getpid(), torch.get_num_threads())), real(*args))[1])  # fmt: skip
    fit.Run(params, "one", "d").ahead(["c"])
    assert made(fit.MODELS) == undisturbed and not here  # nothing was fitted in this process


def test_fixed_features_are_fitted_side_by_side_without_torch(small_profile, tmp_path):
    params, _ = small_profile()
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json")))
    code = (
        "import sys; from benchmarks import fit, workers; from pipeline import folds, params\n"
        "folds.main(); run = fit.Run(params.load(), 'spectrum', 'd'); run.ahead(['a', 'b'])\n"
        "print(workers.count(), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), workers.WORKERS: "2"},
    )  # fmt: skip
    assert done.stdout.split() == ["2", "False"], done.stderr
    assert (tmp_path / "models/spectrum/b/0/recipe.json").is_file()


def test_workers_are_as_many_as_asked_for_or_one(monkeypatch):
    monkeypatch.setenv(workers.WORKERS, "3")
    assert workers.count() == 3
    for wrong in ("0", "-1", "two", ""):
        monkeypatch.setenv(workers.WORKERS, wrong)
        with pytest.raises(UserError, match=rf"{workers.WORKERS} is '{wrong}'; expected a number"):
            workers.count()
        monkeypatch.setenv(workers.STACK, wrong)
        with pytest.raises(UserError, match=rf"{workers.STACK} is '{wrong}'; expected a number"):
            workers.stack()
    monkeypatch.setenv(workers.STACK, "4")
    assert workers.stack() == 4
    # Processes of `accelerate launch` fit together, not side by side.
    monkeypatch.delenv(workers.WORKERS)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert workers.count() == 1
    with pytest.raises(UserError, match=f"{workers.STACK} is 4 and several processes train one"):
        workers.stack()
    monkeypatch.delenv(workers.STACK)
    assert workers.stack() == 1


def whole(home):
    """Seeds that lie there, each of which is whole; what is not is hidden from all readers."""
    if not home.is_dir():  # the error may come before anything was written
        return []
    seeds = sorted(path.name for path in home.iterdir() if not path.name.startswith("."))
    for seed in seeds:
        names = {path.name for path in (home / seed).iterdir()}
        assert names == {
            "seed.json", "threshold.json", "reads.json", "recipe.json", "timing.json",
            "scores-valid.parquet", "scores-none.parquet",
        }  # fmt: skip
    return seeds


def test_an_error_in_a_worker_stops_the_run_with_its_message(project, drawing, monkeypatch):
    first, wrong = (seed_for(project.seed, "fit", "c", seed) for seed in (0, 1))

    class Refusing(drawing):
        @classmethod
        def fit(cls, train, valid, options, seed, log=None, crop="center", finish=None):
            if seed == wrong:
                raise UserError(f"seed {seed} is refused; choose another")
            if seed != first:
                time.sleep(0.5)  # those behind it in the queue take their time
            return super().fit(train, valid, options, seed)

    monkeypatch.setattr(fit, "load_method", lambda name: Refusing)
    monkeypatch.setenv(workers.WORKERS, "2")
    params = with_seeds(project, *range(16))
    with pytest.raises(UserError, match=f"^seed {wrong} is refused; choose another$"):
        fit.Run(params, "spectrum", "d").ahead(["c"])
    done = whole(fit.MODELS / "spectrum/c")
    assert "1" not in done and not fit.SCORES.exists()
    # What nobody had begun was begun no more, and nobody works on.
    assert len(done) < 15
    time.sleep(0.7)
    assert whole(fit.MODELS / "spectrum/c") == done
    monkeypatch.setattr(fit, "load_method", lambda name: drawing)
    assert list(run(params)["seed"].unique()) == list(range(16))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")
def test_a_kill_of_the_run_leaves_whole_seeds_only_and_no_worker(project, drawing, monkeypatch):
    params = with_seeds(project, 0, 1, 2)
    undisturbed = run(params)
    fit.shutil.rmtree(fit.MODELS)
    fit.scores_path("spectrum", "c").unlink()
    monkeypatch.setenv(workers.WORKERS, "2")
    home, pids = fit.MODELS / "spectrum/c", Path("workers")
    pids.mkdir()
    real = fit.write_table

    def slow(path, table):
        """Say who writes, and stand still in the middle of seed 1."""
        (pids / str(os.getpid())).touch()
        real(path, table)
        if "/.1.tmp/" in str(path):
            time.sleep(SECONDS)

    def until(there):
        deadline = time.monotonic() + SECONDS
        while not there():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def ended(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return True

    with monkeypatch.context() as patch:
        patch.setattr(fit, "write_table", slow)
        every = fit.Run(params, "spectrum", "d")
        process = multiprocessing.get_context("fork").Process(target=every.ahead, args=(["c"],))
        process.start()
        try:
            until(
                lambda: (
                    (home / ".1.tmp/scores-valid.parquet").exists() and {*whole(home)} >= {"0", "2"}
                )
            )
        finally:
            process.kill()
            process.join()
    pids = [path.name for path in pids.iterdir()]
    assert pids and str(process.pid) not in pids
    until(lambda: all(map(ended, pids)))
    assert whole(home) == ["0", "2"] and not fit.SCORES.joinpath("spectrum/c.parquet").exists()
    # The next run fits the one that is missing, and what is left of it is no part of the result.
    assert run(params).equals(undisturbed) and drawing.fits == 4
    assert {path.name for path in home.iterdir()} == {"0", "1", "2"}


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
