"""The whole matrix of a method as one computation, against trainings that are started one by one.

Ours is `python -m benchmarks.fit <method>`: the pictures are decoded once and the fits run side by
side, one per core on one thread each. One by one is a process for each held-out and seed, on all
cores, after the other. Both write the same folders, in a place of their own. A second race, of a
part of the matrix, is between ours and the same command that fits one by one on all threads.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.speed.turns import OURS, Race, alike
from benchmarks.workers import STACK, WORKERS
from pipeline.errors import UserError
from pipeline.folds import INDEX
from pipeline.params import PATH, Params, parse

TARGET = 2.0
ONE_BY_ONE = "a process for each fit, one after the other"
ALL_THREADS = "one fit at a time, on all threads"
AS_ONE = "all networks as one, on all threads"


def home(place: Path, values: dict[str, Any], manifests: Path) -> Path:
    """Make a folder in which a fit runs on given manifests, and leaves no trace elsewhere.

    Args:
        place: of the folder; what is there goes.
        values: of its params.yaml.
        manifests: folder of the manifests, with folds.json beside it.
    """
    shutil.rmtree(place, ignore_errors=True)
    (place / INDEX.parent).mkdir(parents=True)
    (place / PATH).write_text(yaml.safe_dump(values, sort_keys=False))
    (place / INDEX.parent / manifests.name).symlink_to(manifests.resolve())
    shutil.copy(manifests.parent / INDEX.name, place / INDEX)
    return place


def start(place: Path, arguments: Sequence[str], **variables: int) -> None:
    """Run `python -m benchmarks.fit` in a folder, with some variables of the environment.

    Raises:
        UserError: it failed.
    """
    top = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": top} | {name: str(n) for name, n in variables.items()}
    command = [sys.executable, "-m", "benchmarks.fit", *arguments]
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"benchmarks.fit {' '.join(arguments)} failed: {done.stderr[-300:]}")


def races(
    values: dict[str, Any], method: str, manifests: Path, place: Path, most: int | None = None
) -> list[Race]:
    """Build the comparison.

    Args:
        values: of params.yaml.
        method: an entry of `methods`.
        manifests: where the manifests lie.
        place: an empty folder.
        most: so many held-outs at most; all where it is None.
    """
    params: Params = parse(values)
    seeds = getattr(params.methods[method], "seeds", None) or params.fit.seeds
    held_outs = params.folds()[:most]

    def home_of(name: str, some: Sequence[int]) -> Path:
        options = {**values["methods"][method], "seeds": list(some)}
        changed = values | {"methods": {**values["methods"], method: options}}
        return home(place / name, changed, manifests)

    def together() -> None:
        start(home_of("together", seeds), [method, *held_outs])

    def one_by_one() -> None:
        for held_out in held_outs:
            for seed in seeds:
                start(home_of("alone", [seed]), [method, held_out], **{WORKERS: 1})

    few, two = held_outs[:2], seeds[:2]

    def part(**variables: int) -> None:
        start(home_of("part", two), [method, *few], **variables)

    fits, fewer = len(held_outs) * len(seeds), len(few) * len(two)
    note = f"`{method}`, {len(held_outs)} held out, {len(seeds)} seeds, scores written"
    short = f"ours: one per core; `{method}`, {len(few)} held out, {len(two)} seeds"
    ways = {OURS: together, ONE_BY_ONE: one_by_one}
    threads = {
        OURS: part,
        ALL_THREADS: lambda: part(**{WORKERS: 1}),
        AS_ONE: lambda: part(**{WORKERS: 1, STACK: fewer}),
    }
    return [
        Race("the matrix of a method", ways, alike(ways, "fits", fits), note, TARGET,
             warm_up=False, turns=1),
        Race("fits at a time", threads, alike(threads, "fits", fewer),
             short, warm_up=False, turns=1),
    ]  # fmt: skip
