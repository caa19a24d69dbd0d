"""Fit one method with one generator held out, set its threshold, score every test image.

`python -m benchmarks.fit <method> <held_out>...` reads data/manifests/ (by data/folds.json) and
writes, per seed, models/<method>/<held_out>/<seed>/ (the detector, `threshold.json`, `reads.json`,
`recipe.json`, `timing.json`, and `scores-<perturbation>.parquet` for each of `perturbations`), and
then scores/<method>/<held_out>.parquet. A seed's folder appears whole or not at all, and is kept as
long as its recipe holds: a kill loses at most the seed in hand, and a further perturbation fits
nothing again. In file names `family:x` is `families/x`.

`python -m benchmarks.fit <method> families` does so for every family of two or more generators: a
family of one is left out where its generator is (`Params.fold_of`).

With DEEPFD_LAUNCH set, as `accelerate launch --num_processes 4`, a learned method is fitted by the
processes which that command starts, together; one of them writes. The recipe does not know of it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
import shutil
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.methods import load_method
from benchmarks.methods.base import Method
from benchmarks.perturb import perturb
from benchmarks.scores import CLEAN, LIBRARIES, MODELS, SCORES, TEST, VALID, model_path, scores_path
from benchmarks.scores import table as scores_table
from benchmarks.thresholds import rule_name, shortfall, threshold_by
from deepfd.options import Learned
from pipeline import folds
from pipeline.errors import UserError, one_line
from pipeline.folds import Fold, Images, file_name
from pipeline.manifest import write_atomic, write_table
from pipeline.params import FAMILIES, FAMILY_PREFIX, Params
from pipeline.params import load as load_params
from pipeline.seeds import seed_for

LOGS = Path("dvclive")
LAUNCH = "DEEPFD_LAUNCH"
# Of the processes that `accelerate launch` starts, the one that scores and writes.
IS_MAIN = os.environ.get("RANK", "0") == "0"
# Params are in the recipe by value, and the wording of errors moves no score.
NOT_CODE = ("pipeline/params.py", "pipeline/errors.py")


def code_digest() -> str:
    """Digest of the project's code that this process has loaded, whatever else lies beside it."""
    root = Path(__file__).parents[1]
    loaded = {Path(m.__file__) for m in sys.modules.values() if getattr(m, "__file__", None)}
    digest = hashlib.sha256()
    for package in ("benchmarks", "deepfd", "generators", "pipeline"):
        for path in sorted(path for path in loaded if path.is_relative_to(root / package)):
            name = path.relative_to(root).as_posix()
            if name not in NOT_CODE:
                digest.update(f"{name}\0{path.read_text()}\0".encode())
    return digest.hexdigest()


def seeds_of(params: Params, name: str) -> tuple[int, ...]:
    """Seeds to fit method `name` with: its own or `fit.seeds`; one if it draws nothing."""
    options = params.methods[name]
    seeds = getattr(options, "seeds", None) or params.fit.seeds
    return seeds[:1] if getattr(load_method(options.method), "deterministic", False) else seeds


def device() -> str:
    """Describe what a fit runs on: the GPU's name, or the kind and number of CPU threads."""
    torch = sys.modules.get("torch")  # a method that does without is spared its import
    if torch is None:
        return f"{platform.machine()} CPU"
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def score(model: Method, pixels: np.ndarray) -> np.ndarray:
    """Score uint8 (N, H, W, C) and check the answer: float64 (N,) in [0, 1].

    Raises:
        UserError: the method broke its promise.
    """
    values = np.asarray(model.score(pixels), dtype=np.float64)
    if values.shape != (len(pixels),) or not ((values >= 0) & (values <= 1)).all():
        raise UserError(
            f"{type(model).__name__} gave scores of shape {values.shape} from {np.min(values)} to "
            f"{np.max(values)} for {len(pixels)} images; expected one P(fake) in [0, 1] each: "
            "lower its learning rate in params.yaml or mend its score()"
        )
    return values


def fit_model(params: Params, name: str, held_out: str, seed: int, fold: Fold) -> Method:
    """Fit one seed of a method; of several processes, each takes part and gets the same model."""
    options = params.methods[name]
    # The method is not part of the name: those that differ in their loss alone then see the same
    # images in the same order from the same first weights.
    return load_method(options.method).fit(
        fold.train,
        fold.valid,
        options,
        seed_for(params.seed, "fit", held_out, seed),
        log=LOGS / f"{name}-{file_name(held_out)}-{seed}",
    )


def fit_seed(
    params: Params,
    name: str,
    held_out: str,
    seed: int,
    fold: Fold,
    recipe: dict[str, Any],
    folder: Path,
) -> Method:
    """Fit and set the threshold; write everything to `folder`.

    What each step read is recorded from the images it was given: `fit` (learned from), `selection`
    (given to choose a step or a parameter on) and `threshold`.
    """  # fmt: skip
    start = time.perf_counter()
    model = fit_model(params, name, held_out, seed, fold)
    timing = {"seconds": round(time.perf_counter() - start, 2), "device": device()}
    model.crop = params.faces.crop
    valid = score(model, fold.valid.pixels)
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
        print(f"fit: {name}, {held_out} held out: {facts['note']}", file=sys.stderr)
    table = score_rows(params, valid, fold.valid, VALID, CLEAN, len(fold.train), folder)
    write_table(_scores_of(folder, VALID), table)
    return model


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
    persons = getattr(images, "identities", None)
    persons = [""] * len(images) if persons is None else persons
    return scores_table(
        images.ids, images.labels, images.generators, persons, values, about, params
    )


def run(params: Params, name: str, held_out: str, data: str) -> None:
    """Fit every seed that is missing or out of date, then gather the scores.

    Args:
        params: the checked params.yaml.
        name: an entry of `methods`.
        held_out: a generator, `none`, or `family:<name>`.
        data: digest of the data (`folds.data_digest`).

    Raises:
        UserError: unknown names, or what loading, fitting and scoring raise.
    """
    if name not in params.methods:
        raise UserError(f"method {name!r} is unknown; expected one of {', '.join(params.methods)}")
    options = params.methods[name]
    method = load_method(options.method)
    base = {
        "method": name,
        # A seed more fits no finished one again.
        "options": options.model_dump(mode="json", exclude={"seeds"}),
        "held_out": held_out,
        "base_seed": params.seed,
        "threshold": params.matrix.threshold.model_dump(mode="json"),
        "data": data,
        "code": code_digest(),
        "libraries": {library: version(library) for library in LIBRARIES},
    }
    home = model_path(name, held_out, 0).parent
    seeds = seeds_of(params, name)
    fold, models = None, {}
    if not IS_MAIN:
        for seed in seeds:
            if not _is_done(home / str(seed), base | {"seed": seed}):
                fold = fold or folds.load(params, held_out)
                fit_model(params, name, held_out, seed, fold)
        return
    for seed in seeds:
        recipe, folder = base | {"seed": seed}, home / str(seed)
        title = f"fit: {name}, {held_out} held out, seed {seed}"
        if _is_done(folder, recipe):
            print(f"{title}: there already", file=sys.stderr)
            continue
        fold = fold or folds.load(params, held_out)
        print(
            f"{title}: {len(fold.train)} train, {len(fold.valid)} valid, {len(fold.test)} test",
            file=sys.stderr,
        )
        start = time.perf_counter()
        place = home / f".{seed}.tmp"
        shutil.rmtree(place, ignore_errors=True)
        models[seed] = fit_seed(params, name, held_out, seed, fold, recipe, place)
        values = score(models[seed], fold.test.pixels)
        table = score_rows(params, values, fold.test, TEST, CLEAN, len(fold.train), place)
        write_table(_scores_of(place, CLEAN), table)
        shutil.rmtree(folder, ignore_errors=True)
        place.rename(folder)
        print(f"{title}: done in {time.perf_counter() - start:.1f} s", file=sys.stderr)
    # The test images are perturbed once for all seeds.
    for perturbation in params.perturbations:
        left = [seed for seed in seeds if not _scores_of(home / str(seed), perturbation).is_file()]
        if not left:
            continue
        print(f"fit: {name}, {held_out} held out: scoring under {perturbation}", file=sys.stderr)
        fold = fold or folds.load(params, held_out)
        pixels = perturb(perturbation, fold.test.pixels, fold.test.ids)
        for seed in left:
            folder = home / str(seed)
            if seed not in models:
                models[seed] = method.load(folder)
            values, n_train = score(models[seed], pixels), len(fold.train)
            table = score_rows(params, values, fold.test, TEST, perturbation, n_train, folder)
            write_table(_scores_of(folder, perturbation), table)
    for other in home.iterdir():
        if other.name not in map(str, seeds):
            shutil.rmtree(other)
    tables = [
        pq.read_table(_scores_of(home / str(seed), perturbation))
        for seed in seeds
        for perturbation in (*params.perturbations, VALID)
    ]
    write_table(scores_path(name, held_out), pa.concat_tables(tables).unify_dictionaries())


def run_families(params: Params, name: str, data: str) -> None:
    """Fit with each family of two or more generators held out; see `run`.

    What was made with a family that is no longer there goes.
    """
    held_outs = [fold for fold in params.folds() if fold.startswith(FAMILY_PREFIX)]
    known = {held_out.removeprefix(FAMILY_PREFIX) for held_out in held_outs}
    models, scores = MODELS / name / FAMILIES, SCORES / name / FAMILIES
    for folder in (models, scores):
        folder.mkdir(parents=True, exist_ok=True)
    for held_out in held_outs:
        run(params, name, held_out, data)
    if not IS_MAIN:
        return
    for path in (*models.iterdir(), *scores.iterdir()):
        if path.stem not in known:
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


def launch(arguments: list[str]) -> None:
    """Become the command in DEEPFD_LAUNCH, which starts this module in processes of its own.

    Raises:
        UserError: there is no such command.
    """
    # Those processes do not find it set, and fit.
    command = shlex.split(os.environ.pop(LAUNCH))
    try:
        os.execvp(command[0], [*command, "-m", "benchmarks.fit", *arguments])
    except OSError as error:
        raise UserError(
            f"{LAUNCH} is {' '.join(command)!r}, which cannot be run ({error.strerror}); expected "
            "a command such as: accelerate launch --multi_gpu --num_processes 4"
        ) from None


@one_line
def main(argv: list[str] | None = None) -> None:
    """Run `python -m benchmarks.fit <method> <held_out>...`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("method", help="an entry of `methods` in params.yaml")
    parser.add_argument(
        "held_out", nargs="+", help="a generator, `none`, `family:<name>` or `families`"
    )
    args = parser.parse_args(argv)
    params = load_params()
    if os.environ.get(LAUNCH) and isinstance(params.methods.get(args.method), Learned):
        launch([args.method, *args.held_out])
    data = folds.data_digest(params)
    for held_out in args.held_out:
        if held_out == FAMILIES:
            run_families(params, args.method, data)
        else:
            run(params, args.method, held_out, data)


if __name__ == "__main__":
    main()
