"""Run the comparisons and write them down: `python -m benchmarks.speed` (`make speed`).

Reads params.yaml and the manifests of the active profile, and writes benchmarks/speed.parquet; with
`--keep` also docs/results/speed.parquet, from which docs/speed.md is rendered. Nothing else may run
on the machine meanwhile. `--quick` is for trying: its numbers mean nothing and are not kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from benchmarks.publish import keep, render, speeds
from benchmarks.speed import reading, sampling, scoring, starts, training, whole, writing
from benchmarks.speed.turns import SCHEMA, Race, rows
from deepfd.options import ResidualNet
from generators.adapters.options import DiffusersGenerator
from pipeline import folds
from pipeline.errors import UserError, one_line
from pipeline.manifest import write_table
from pipeline.params import NONE, PATH, Params, parse

OUT = Path("benchmarks/speed.parquet")
METHOD = "deepfd"


@dataclass(frozen=True)
class Setting:
    """What the comparisons work on.

    Attributes:
        values: of params.yaml.
        manifests: where those of the profile lie.
        place: a folder for what the ways write.
        quick: whether as little is done as shows that everything runs.
    """

    values: dict[str, Any]
    manifests: Path
    place: Path
    quick: bool = False

    @property
    def params(self) -> Params:
        """The values, checked."""
        return parse(self.values)

    def of(self, full: int, quick: int) -> int:
        """Choose by `quick`."""
        return quick if self.quick else full


def _training(setting: Setting) -> list[Race]:
    options = setting.params.methods.get(METHOD)
    if not isinstance(options, ResidualNet):
        raise UserError(f"methods.{METHOD} is not there; expected it among the methods")
    fold = folds.load(setting.params, setting.manifests).fold(NONE)
    return training.races(fold, options, setting.place, setting.of(options.steps, 2))


def _sampling(setting: Setting) -> list[Race]:
    for name, entry in setting.params.generators.items():
        if isinstance(entry, DiffusersGenerator) and not entry.prompts:
            if setting.quick:
                quick = entry.model_copy(update={"steps": 2, "batch": 1})
                found = {**setting.params.generators, name: quick}
                run = setting.params.model_copy(update={"generators": found})
                return sampling.races(name, run, 1)
            return sampling.races(name, setting.params, 50)
    print("speed: sampling is not timed: no diffusers entry in params.yaml", file=sys.stderr)
    return []


def _writing(setting: Setting) -> list[Race]:
    pictures = folds.load(setting.params, setting.manifests).fold(NONE).test
    return writing.races(setting.params, pictures, setting.place)


def _matrix(setting: Setting) -> list[Race]:
    if not setting.quick:
        return whole.races(setting.values, METHOD, setting.manifests, setting.place)
    methods = setting.values["methods"]
    short = setting.values | {"methods": {**methods, METHOD: methods[METHOD] | {"steps": 2}}}
    return whole.races(short, METHOD, setting.manifests, setting.place, most=2)


PARTS: dict[str, Callable[[Setting], list[Race]]] = {
    "start": lambda _: starts.races(),
    "reading": lambda s: reading.races(s.params, s.manifests, s.place),
    "writing": _writing,
    "training": _training,
    "sampling": _sampling,
    "metrics": lambda s: scoring.races(s.of(300, 5)),
    "matrix": _matrix,
}


def measure(setting: Setting, names: list[str]) -> Iterator[dict[str, Any]]:
    """Run parts and yield their rows; each part has an empty folder of its own."""
    for name in names:
        place = setting.place / name
        place.mkdir(parents=True)
        own = Setting(setting.values, setting.manifests, place, setting.quick)
        for race in PARTS[name](own):
            yield from rows(race, setting.of(3, 1))
        shutil.rmtree(place)


def about(quick: bool, began: float) -> dict[str, Any]:
    """Say where and when rows were measured."""
    try:
        at = keep.commit()
    except UserError as error:
        at = f"none: {error}"
    seconds = round(time.perf_counter() - began, 1)
    return {"commit": at, "quick": quick, "seconds": seconds, **keep.machine()}


@one_line
def main(argv: list[str] | None = None) -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--quick", action="store_true", help="as little as shows that all runs")
    parser.add_argument("--keep", action="store_true", help="keep the result, and render docs")
    args = parser.parse_args(argv)
    if args.keep and (args.quick or args.only != list(PARTS)):
        raise UserError("--keep with --quick or --only; what is kept is the whole measurement")
    if args.keep:
        keep.commit()  # refused now rather than after the measurement
    began = time.perf_counter()
    values = yaml.safe_load(PATH.read_text(encoding="utf-8"))
    folds.data_digest(parse(values))  # the manifests are those of params.yaml
    with tempfile.TemporaryDirectory() as place:
        setting = Setting(values, folds.MANIFESTS, Path(place), args.quick)
        found = list(measure(setting, args.only))
    described = {speeds.META: json.dumps(about(args.quick, began)).encode()}
    write_table(OUT, pa.Table.from_pylist(found, SCHEMA.with_metadata(described)))
    print(f"speed: {len(found)} rows in {OUT}", file=sys.stderr)
    if args.keep:
        speeds.put(OUT)
        render.render()


if __name__ == "__main__":
    main()
