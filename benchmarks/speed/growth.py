"""How time and memory grow with images, generators, collections and rounds.

`python -m benchmarks.speed.growth` runs the project's own steps on planted pictures of 64x64x3
(noise, the fakes with a checkerboard), each in a process of its own whose largest memory is read,
fits a line through each series and writes benchmarks/growth.parquet; with `--keep` docs/results/
keeps it and docs/speed.md is rendered. Steps: `write` (manifests), `load` (decode all), `fit`
(`spectrum` on one fold), `matrix` (one method, all folds; scores are drawn), `history` (one round
more). Images are counted per generator and collection. The largest step needs 13 GB
of memory, all of them twelve minutes. `--quick` is for trying.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml

from pipeline import folds, manifest
from pipeline.errors import UserError, one_line
from pipeline.params import NONE, Params, parse

OUT = Path("benchmarks/growth.parquet")
TOP = Path(__file__).parents[2]
PART = 1000
STEPS = ("write", "load", "fit", "matrix", "history")


@dataclass(frozen=True)
class Size:
    """How much there is.

    Attributes:
        images: of each generator, and of each collection.
        generators: how many.
        collections: of photographs.
        rounds: of growth so far.
    """

    images: int = 1000
    generators: int = 4
    collections: int = 1
    rounds: int = 1


SERIES = {
    "images": (1000, 5000, 20_000, 100_000),
    "generators": (2, 4, 8, 12),
    "collections": (1, 2, 3, 4),
    "rounds": (1, 10, 25, 50),
}
QUICK = {"images": (20, 40), "generators": (2, 3), "collections": (1, 2), "rounds": (1, 2)}
# What each quantity can move.
MOVES = {
    "images": ("write", "load", "fit", "matrix"),
    "generators": ("write", "load", "fit", "matrix"),
    "collections": ("load", "fit", "matrix"),
    "rounds": ("history",),
}
SCHEMA = pa.schema(
    [
        ("step", pa.string()),
        ("quantity", pa.string()),
        ("least", pa.float64()),
        ("most", pa.float64()),
        ("seconds_slope", pa.float64()),
        ("seconds_intercept", pa.float64()),
        ("megabytes_slope", pa.float64()),  # of the largest memory of the process
        ("megabytes_intercept", pa.float64()),
        ("fit", pa.float64()),  # R^2 of the line of the seconds
    ]
)


def params_of(size: Size) -> Params:
    """Build params of so many generators and collections, for method `spectrum`."""
    values = yaml.safe_load((TOP / "params.yaml").read_text(encoding="utf-8"))
    values["faces"] |= {"size": 64, "channels": 3, "finish": "none"}
    entry = {"adapter": "folder", "weights": "-", "images": size.images}
    values["generators"] = {f"g{i}": entry | {"family": f"f{i}"} for i in range(size.generators)}
    values["photographs"] = {
        f"c{i}": {"source": "folder", "path": "-"} for i in range(size.collections)
    }
    values["methods"] = {"spectrum": {"method": "spectrum"}}
    values["matrix"] |= {"compare": []}
    values["perturbations"] = [NONE]
    return parse(values)


def write(params: Params, size: Size, folder: Path) -> None:
    """Write the manifests of planted pictures, a part at a time."""
    board = np.indices((64, 64)).sum(0)[..., None] % 2 * 4
    for name, source in folds.sources(params).items():
        is_real = manifest.is_real(name)
        draw = np.random.default_rng(len(source))
        for number, first in enumerate(range(0, size.images, PART)):
            places = range(first, min(first + PART, size.images))
            level = draw.integers(60, 180, (len(places), 8, 8, 3)).repeat(8, 1).repeat(8, 2)
            noise = draw.integers(0, 12, (len(places), 64, 64, 3))
            pixels = (level + noise + (0 if is_real else board)).astype(np.uint8)
            rows = manifest.rows_of(
                pixels,
                ids=[f"{source}-{i:08d}" for i in places],
                splits=[("train", "train", "valid", "test")[i % 4] for i in places],
                generator=name,
                family="real" if is_real else params.generators[name].family,
                spec="planted",
                seeds=[None if is_real else i for i in places],
                identities=[f"{source}-{i // 10}" if is_real else None for i in places],
            )
            manifest.write_part(manifest.part_path(folder / source, number), rows)


def fit(params: Params, corpus: folds.Corpus) -> None:
    """Fit and score one fold, as the stage does but for its files."""
    from benchmarks.methods import load_method

    fold, options = corpus.fold(NONE), params.methods["spectrum"]
    model = load_method(options.method).fit(fold.train, fold.valid, options, 0)
    model.score(fold.test.pixels)


def drawn_scores(params: Params, size: Size) -> pd.DataFrame:
    """Draw scores of every fold and image, as `scores/` would hold them."""
    from benchmarks import scores
    from benchmarks.scores import CLEAN, TEST, VALID
    from benchmarks.thresholds import rule_name, threshold_by

    each, tables = max(size.images // 4, 20), []
    rule = params.matrix.threshold
    for held_out in params.folds():
        trained = set(params.training(held_out))
        found = {}
        for split, names in ((VALID, trained), (TEST, folds.sources(params))):
            sources = np.repeat(sorted(names), each)
            labels = np.array([int(not manifest.is_real(str(one))) for one in sources])
            draw = np.random.default_rng(len(sources))
            values = 1 / (1 + np.exp(-draw.normal(3.0 * labels - 1.5, 1.5)))
            found[split] = sources, labels, values
        _, labels, values = found[VALID]
        threshold = threshold_by(rule.rule, values, labels, rule.fpr)
        for split, (sources, labels, values) in found.items():
            ids = np.array([f"{split}-{name}-{i}" for i, name in enumerate(sources)])
            about = {
                "split": split, "perturbation": CLEAN, "threshold": threshold,
                "threshold_rule": rule_name(rule.rule, rule.fpr), "n_train": len(ids),
                "method": "spectrum", "held_out": held_out, "seed": 0, "code": "-", "data": "-",
            }  # fmt: skip
            none = np.full(len(ids), "")
            tables.append(scores.table(ids, labels, sources, none, values, about, params))
    return pa.concat_tables(tables).unify_dictionaries().to_pandas()


def history(params: Params, size: Size, folder: Path) -> float:
    """Add the last of so many rounds to a history that has the others; returns its seconds."""
    from pipeline.operate import history as stage

    def rows(number: int) -> pd.DataFrame:
        kinds = {pa.string(): "x" * 64, pa.int64(): 1, pa.float64(): 0.5}
        row = {field.name: kinds[field.type] for field in stage.SCHEMA} | {"round": number}
        return pd.DataFrame([row] * len(params.generators))

    path = folder / "history.parquet"
    stage.write(pd.concat([rows(number) for number in range(size.rounds)]), path)
    begin = time.perf_counter()
    stage.write(rows(size.rounds), path)
    return time.perf_counter() - begin


def peak() -> float:
    """Megabytes that this process had at most (getrusage would count its parent's, from the fork).

    Raises:
        UserError: not on Linux.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        raise UserError("growth reads memory from /proc/self/status; expected Linux") from None
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e6


def work(step: str, size: Size, folder: Path) -> float:
    """Do one step in this process; returns the seconds of the step without what prepares it."""
    params = params_of(size)
    corpus = folds.load(params, folder) if step == "fit" else None
    scores = drawn_scores(params, size) if step == "matrix" else None
    begin = time.perf_counter()
    if step == "write":
        write(params, size, folder)
    elif step == "load":
        pixels = folds.load(params, folder).images.pixels
        seconds = time.perf_counter() - begin
        pixels.max()  # what other processes have written is this one's where it is read
        return seconds
    elif corpus is not None:
        fit(params, corpus)
    elif scores is not None:
        from benchmarks import matrix

        matrix.build(params, scores)
    else:
        return history(params, size, folder)
    return time.perf_counter() - begin


def apart(step: str, size: Size, folder: Path) -> tuple[float, float]:
    """Do a step in a process of its own: seconds of the step, megabytes of the process at most.

    Raises:
        UserError: it failed.
    """
    command = [sys.executable, "-m", "benchmarks.speed.growth", "--work", step]
    command += ["--size", json.dumps(asdict(size)), "--folder", str(folder)]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"growth: {step} of {size} failed: {done.stderr[-500:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"growth: {step}, {size}: {found}", file=sys.stderr)
    return found["seconds"], found["megabytes"]


def line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Fit a line by least squares: slope, intercept, R^2.

    >>> [round(number, 6) for number in line([1, 2, 3], [3, 5, 7])]
    [2.0, 1.0, 1.0]
    """
    slope, intercept = np.polyfit(x, y, 1)
    rest = np.asarray(y) - (slope * np.asarray(x) + intercept)
    spread = np.var(y)
    return float(slope), float(intercept), float(1 - np.var(rest) / spread if spread else 1)


def measure(series: dict[str, tuple[int, ...]], base: Size) -> Iterator[dict[str, Any]]:
    """Measure every series, one quantity at a time, and yield a row of `SCHEMA` for each step."""
    for quantity, values in series.items():
        found: dict[str, list[tuple[float, float]]] = {step: [] for step in MOVES[quantity]}
        for value in values:
            size = replace(base, **{quantity: value})
            with tempfile.TemporaryDirectory() as folder:
                if "write" not in found and "load" in found:
                    write(params_of(size), size, Path(folder))
                for step in found:
                    found[step].append(apart(step, size, Path(folder)))
        for step, pairs in found.items():
            seconds, megabytes = zip(*pairs, strict=True)
            slope, intercept, fit = line(values, seconds)
            more, least, _ = line(values, megabytes)
            yield {
                "step": step,
                "quantity": quantity,
                "least": float(values[0]),
                "most": float(values[-1]),
                "seconds_slope": slope,
                "seconds_intercept": intercept,
                "megabytes_slope": more,
                "megabytes_intercept": least,
                "fit": fit,
            }


@one_line
def main(argv: list[str] | None = None) -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.growth", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="as little as shows that all runs")
    parser.add_argument("--keep", action="store_true", help="keep the result, and render docs")
    parser.add_argument("--work", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--size", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.work:
        seconds = work(args.work, Size(**json.loads(args.size)), args.folder)
        print(json.dumps({"seconds": seconds, "megabytes": peak()}))
        return
    from benchmarks.publish import render, speeds
    from benchmarks.speed.__main__ import about

    if args.keep and args.quick:
        raise UserError("--keep with --quick; what is kept is the whole measurement")
    began = time.perf_counter()
    found = list(
        measure(QUICK if args.quick else SERIES, Size(images=20) if args.quick else Size())
    )
    described = {speeds.META: json.dumps(about(args.quick, began)).encode()}
    manifest.write_table(OUT, pa.Table.from_pylist(found, SCHEMA.with_metadata(described)))
    if args.keep:
        speeds.put(OUT)
        render.render()


if __name__ == "__main__":
    main()
