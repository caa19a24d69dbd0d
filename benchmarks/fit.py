"""Fit one method with everything held out in turn, set its thresholds, score every test image.

`python -m benchmarks.fit <method> [<held_out>...]` reads data/manifests/ (by data/folds.json) once
and fits every fold of params.yaml (or those named) with every seed. Per fold and seed it writes
models/<method>/<held_out>/<seed>/: the detector, `threshold.json`, `reads.json`, `recipe.json`,
`timing.json`, and `scores-valid.parquet` and `scores-<perturbation>.parquet` for each of
`perturbations`; and then scores/<method>/<held_out>.parquet (`pipeline.folds.file_name` says how a
held-out is written). A seed's folder appears whole or not at all, and is kept as long as its recipe
holds: a kill loses at most the seed in hand, and a further perturbation fits nothing again.

With DEEPFD_STACK set, so many networks of a learned method are trained as one (`deepfd.stacked`),
and a kill loses those in hand.
With DEEPFD_LAUNCH set, as `accelerate launch --num_processes 4`, a learned method is fitted by the
processes which that command starts, together; one of them writes. The recipe knows of neither.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from benchmarks import workers
from benchmarks.methods import load_method
from benchmarks.methods.base import Asked, Method
from benchmarks.perturb import perturb
from benchmarks.scores import CLEAN, MODELS, SCORES, TEST, VALID, scores_path
from benchmarks.scores import table as scores_table
from benchmarks.thresholds import rule_name, shortfall, threshold_by
from deepfd import calibrate
from deepfd.options import Learned
from pipeline import folds, forked
from pipeline.code import digest_of_method
from pipeline.errors import UserError, one_line
from pipeline.folds import Corpus, Fold, Images, file_name
from pipeline.manifest import write_atomic, write_table
from pipeline.params import Params
from pipeline.params import load as load_params
from pipeline.seeds import seed_for

LOGS = Path("dvclive")
# Of the processes that `accelerate launch` starts, the one that scores and writes.
IS_MAIN = os.environ.get("RANK", "0") == "0"


def seeds_of(params: Params, name: str) -> tuple[int, ...]:
    """Seeds to fit method `name` with: its own or `fit.seeds`; one if it draws nothing."""
    options = params.methods[name]
    seeds = getattr(options, "seeds", None) or params.fit.seeds
    return seeds[:1] if load_method(options.method).deterministic else seeds


def device() -> str:
    """Describe what a fit runs on: the GPU's name, or the kind and number of CPU threads."""
    torch = sys.modules.get("torch")  # a method that does without is spared its import
    if torch is None:
        return f"{platform.machine()} CPU"
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def score(model: Method, pixels: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """Score uint8 (N, H, W, C), where that is not `known`, and check: float64 (N,) in [0, 1].

    Raises:
        UserError: the method broke its promise.
    """
    values = np.asarray(model.score(pixels) if known is None else known, dtype=np.float64)
    if values.shape != (len(pixels),) or not ((values >= 0) & (values <= 1)).all():
        raise UserError(
            f"{type(model).__name__} gave scores of shape {values.shape} from {np.min(values)} to "
            f"{np.max(values)} for {len(pixels)} images; expected one P(fake) in [0, 1] each: "
            "lower its learning rate in params.yaml or mend its score()"
        )
    return values


def seed_of_fit(params: Params, held_out: str, seed: int) -> int:
    """Return the seed of every draw of a fit.

    The method has no part in it: those that differ in their loss alone then see the same images in
    the same order from the same first weights.
    """
    return seed_for(params.seed, "fit", held_out, seed)


def fit_model(params: Params, name: str, held_out: str, seed: int, fold: Fold) -> Method:
    """Fit one seed of a method; of several processes, each takes part and gets the same model."""
    options = params.methods[name]
    return load_method(options.method).fit(
        fold.train,
        fold.valid,
        options,
        seed_of_fit(params, held_out, seed),
        log=LOGS / f"{name}-{file_name(held_out)}-{seed}",
        crop=params.crop_of(held_out),
        finish=params.faces.finish,
    )


def write_seed(
    params: Params, model: Method, seconds: float, fold: Fold, recipe: dict[str, Any], folder: Path
) -> None:
    """Set the threshold of what was fitted; write everything to `folder`.

    What each step read is recorded from the images it was given: `fit` (learned from), `selection`
    (given to choose a step or a parameter on) and `threshold`.
    """
    timing = {"seconds": round(seconds, 4), "device": device()}
    valid = score(model, fold.valid.pixels, model.valid_scores)
    rule, target = params.matrix.threshold.rule, params.matrix.threshold.fpr
    threshold = threshold_by(rule, valid, fold.valid.labels, target)
    real = fold.valid.labels == 0
    facts = {
        "rule": rule,
        "target": target,
        "threshold": threshold,
        "n_real": int(real.sum()),
        "note": shortfall(int(real.sum()), target),
        "valid_fpr": float((valid[real] >= threshold).mean()),
        "valid_recall": float((valid[~real] >= threshold).mean()),
        "calibration": calibrate.fit(valid, fold.valid.labels),
    }
    reads = {
        "fit": fold.describe_reads(fold.train.ids),
        "selection": fold.describe_reads(fold.valid.ids),
        "threshold": fold.describe_reads(fold.valid.ids),
    }
    model.save(folder)
    written = {"threshold": facts, "reads": reads, "recipe": recipe, "timing": timing}
    for file, content in written.items():
        write_atomic(folder / f"{file}.json", _json(content))
    if facts["note"]:
        what = f"{recipe['method']}, {recipe['held_out']} held out"
        print(f"fit: {what}: {facts['note']}", file=sys.stderr)
    table = score_rows(params, valid, fold.valid, VALID, CLEAN, len(fold.train), folder)
    write_table(_scores_of(folder, VALID), table)


def score_rows(
    params: Params,
    values: np.ndarray,
    images: Images,
    split: str,
    perturbation: str,
    n_train: int,
    folder: Path,
) -> pa.Table:
    """Lay out the scores of some images by the detector that `folder` holds.

    Args:
        params: the checked params.yaml.
        values: float (N,), P(fake).
        images: what was scored.
        split: `test` or `valid`.
        perturbation: what was done to them before.
        n_train: number of images the detector learned from.
        folder: where the detector's threshold.json and recipe.json lie.
    """
    facts, recipe = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("threshold", "recipe")
    )
    about = {
        "split": split,
        "perturbation": perturbation,
        "threshold": facts["threshold"],
        "threshold_rule": rule_name(facts["rule"], facts["target"]),
        "n_train": n_train,
        **{key: recipe[key] for key in ("method", "held_out", "seed", "code", "data")},
    }
    return scores_table(
        images.ids, images.labels, images.generators, images.identities, values, about, params
    )


class Run:
    """One method on any number of folds: images are decoded once, where they are needed.

    Args:
        params: the checked params.yaml.
        name: an entry of `methods`.
        data: digest of the data (`folds.data_digest`).

    Raises:
        UserError: an unknown name; the methods raise what loading, fitting and scoring raise.
    """

    def __init__(self, params: Params, name: str, data: str) -> None:
        if name not in params.methods:
            raise UserError(
                f"method {name!r} is unknown; expected one of {', '.join(params.methods)}"
            )
        self.params, self.name = params, name
        self.seeds = seeds_of(params, name)
        self.options = params.methods[name]
        load_method(self.options.method).keep()
        self.base = {
            "method": name,
            # A seed more fits no finished one again.
            "options": self.options.model_dump(mode="json", exclude={"seeds"}),
            "base_seed": params.seed,
            "threshold": params.matrix.threshold.model_dump(mode="json"),
            "data": data,
            "code": digest_of_method(self.options.method),
        }

    @cached_property
    def corpus(self) -> Corpus:
        """Every image of the run."""
        return folds.load(self.params)

    def home(self, held_out: str) -> Path:
        """Folder of a fold's detectors, one a seed."""
        return MODELS / self.name / file_name(held_out)

    def recipe(self, held_out: str, seed: int) -> dict[str, Any]:
        """Return all that the detector of a fold and seed is a function of."""
        return self.base | {"held_out": held_out, "seed": seed}

    def missing(self, held_out: str) -> list[int]:
        """Seeds of a fold that are not there, or of another recipe."""
        home = self.home(held_out)
        return [s for s in self.seeds if not _is_done(home / str(s), self.recipe(held_out, s))]

    def fit(self, held_out: str, seed: int, fold: Fold | None = None) -> Method:
        """Fit one seed of a fold and score the clean test images; its folder appears whole."""
        fold = fold or self.corpus.fold(held_out)
        start = time.perf_counter()
        model = fit_model(self.params, self.name, held_out, seed, fold)
        if IS_MAIN:
            self._write(held_out, seed, fold, model, time.perf_counter() - start)
        return model

    def fit_stack(self, *tasks: tuple[str, int]) -> None:
        """Fit some held-outs and seeds as one network (`deepfd.stacked`)."""
        parts = {held_out: self.corpus.fold(held_out) for held_out in dict(tasks)}
        start = time.perf_counter()
        asked = [
            Asked(
                parts[held_out],
                seed_of_fit(self.params, held_out, seed),
                self.params.crop_of(held_out),
            )
            for held_out, seed in tasks
        ]
        method = load_method(self.options.method)
        models = method.fit_several(asked, self.options, self.params.faces.finish)
        seconds = (time.perf_counter() - start) / len(tasks)
        for (held_out, seed), model in zip(tasks, models, strict=True):
            self._write(held_out, seed, parts[held_out], model, seconds)

    def _write(self, held_out: str, seed: int, fold: Fold, model: Method, seconds: float) -> None:
        """Write a detector, its threshold and scores; its folder appears whole."""
        start, home = time.perf_counter(), self.home(held_out)
        place = home / f".{seed}.tmp"
        shutil.rmtree(place, ignore_errors=True)
        write_seed(self.params, model, seconds, fold, self.recipe(held_out, seed), place)
        values = score(model, fold.test.pixels)
        table = score_rows(self.params, values, fold.test, TEST, CLEAN, len(fold.train), place)
        write_table(_scores_of(place, CLEAN), table)
        shutil.rmtree(home / str(seed), ignore_errors=True)
        place.rename(home / str(seed))
        tqdm.write(
            f"fit: {self.name}, {held_out} held out, seed {seed}: {len(fold.train)} train, "
            f"{len(fold.valid)} valid, {len(fold.test)} test, "
            f"{seconds + time.perf_counter() - start:.1f} s",
            file=sys.stderr,
        )

    def fold(self, held_out: str) -> None:
        """Fit every seed of a fold that is missing or out of date, then gather the scores."""
        fold, models = None, {}
        for seed in self.missing(held_out):
            fold = fold or self.corpus.fold(held_out)
            models[seed] = self.fit(held_out, seed, fold)
        if IS_MAIN:
            self.gather(held_out, fold, models)

    def ahead(self, held_outs: Sequence[str]) -> None:
        """Fit what is missing of several folds side by side (`benchmarks.workers`)."""
        tasks = [(held_out, seed) for held_out in held_outs for seed in self.missing(held_out)]
        method = load_method(self.options.method)
        several, stack = workers.count(), workers.stack() if method.stackable else 1
        # Before a fork, which then shares it. (Of processes that fit together each reads its own.)
        if len(tasks) > 1 and "WORLD_SIZE" not in os.environ:
            method.prepare(self.corpus, self.options, self.params.faces.finish)
        # One that is left over by a kill is fitted as its neighbours were: on one thread.
        if not tasks or (several < 2 and stack < 2):
            return
        function, work = self.fit, tasks
        if stack > 1:
            starts = range(0, len(tasks), stack)
            function, work = self.fit_stack, [tuple(tasks[at : at + stack]) for at in starts]
        if several > 1:
            forked.each(function, work, min(len(work), several), self.name)
        else:
            for one in work:
                function(*one)

    def gather(self, held_out: str, fold: Fold | None, models: dict[int, Method]) -> None:
        """Score what is not scored yet, remove seeds that are not asked for, write the scores."""
        home = self.home(held_out)
        self._perturbed(held_out, home, fold, models)
        for other in home.iterdir():
            if other.name not in map(str, self.seeds):
                shutil.rmtree(other)
        tables = [
            pq.read_table(_scores_of(home / str(seed), perturbation))
            for seed in self.seeds
            for perturbation in (*self.params.perturbations, VALID)
        ]
        out = scores_path(self.name, held_out)
        write_table(out, pa.concat_tables(tables).unify_dictionaries())

    def _perturbed(
        self, held_out: str, home: Path, fold: Fold | None, models: dict[int, Method]
    ) -> None:
        """Score what is not scored yet; the test images are perturbed once for all seeds."""
        method = load_method(self.options.method)
        for perturbation in self.params.perturbations:
            left = [s for s in self.seeds if not _scores_of(home / str(s), perturbation).is_file()]
            if not left:
                continue
            title = f"fit: {self.name}, {held_out} held out: scoring under {perturbation}"
            print(title, file=sys.stderr)
            fold = fold or self.corpus.fold(held_out)
            pixels = perturb(perturbation, fold.test.pixels, fold.test.ids)
            for seed in left:
                folder = home / str(seed)
                if seed not in models:
                    models[seed] = method.load(folder)
                values, n_train = score(models[seed], pixels), len(fold.train)
                table = score_rows(
                    self.params, values, fold.test, TEST, perturbation, n_train, folder
                )
                write_table(_scores_of(folder, perturbation), table)

    def tidy(self) -> None:
        """Remove what was made of folds that params.yaml no longer has."""
        known = {file_name(held_out) for held_out in self.params.folds()}
        for home in (MODELS / self.name, SCORES / self.name):
            for path in home.iterdir():
                if path.name.removesuffix(".parquet") not in known:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _scores_of(folder: Path, perturbation: str) -> Path:
    """Path of a seed's scores under one perturbation."""
    return folder / f"scores-{perturbation}.parquet"


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


def _is_done(folder: Path, recipe: dict[str, Any]) -> bool:
    """Say whether `folder` holds a whole seed that was made by this very recipe."""
    path = folder / "recipe.json"
    return path.is_file() and path.read_bytes() == _json(recipe)


@one_line
def main(argv: list[str] | None = None) -> None:
    """Run `python -m benchmarks.fit <method> [<held_out>...]`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("method", help="an entry of `methods` in params.yaml")
    parser.add_argument(
        "held_out", nargs="*", help="a generator, `none`, `family:<name>`, `real:<name>`; or all"
    )
    args = parser.parse_args(argv)
    params = load_params()
    if os.environ.get(workers.LAUNCH) and isinstance(params.methods.get(args.method), Learned):
        workers.launch([args.method, *args.held_out])
    every = Run(params, args.method, folds.data_digest(params))
    held_outs = args.held_out or params.folds()
    every.ahead(held_outs)
    for held_out in held_outs:
        every.fold(held_out)
    if IS_MAIN and not args.held_out:
        every.tidy()


if __name__ == "__main__":
    main()
