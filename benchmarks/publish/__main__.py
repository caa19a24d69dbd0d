"""Command line: `python -m benchmarks.publish keep | render | compare | page`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
import yaml

from benchmarks import readings
from benchmarks.localisation import OUT as LOCALISATION
from benchmarks.page.report import OUT
from benchmarks.publish import artefact, compare, keep, render, screenshot
from pipeline.errors import one_line
from pipeline.manifest import write_atomic
from pipeline.params import PATH, parse
from pipeline.params import load as load_params

PAGE = OUT / "index.html"
TOLERANCE = (
    f"of learned methods' rates, 0 to 1 (default {compare.TOLERANCE[compare.LEARNED]}); those "
    f"that draw nothing have {compare.TOLERANCE[compare.FIXED]}"
)


def _keep(args: argparse.Namespace) -> None:
    params, results = load_params(), readings.read()
    at = keep.commit()
    keep.checked(params, results)
    folder = keep.keep(params, results, at, args.name or params.profile)
    print(f"kept: {folder}, {len(results)} rows, commit {at[:12]}", file=sys.stderr)


def _render(args: argparse.Namespace) -> None:
    for path in (written := render.render()):
        print(f"written: {path}", file=sys.stderr)
    if not written:
        print("nothing to write: the documents say what is kept", file=sys.stderr)


def _tolerance(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no difference of rates; expected 0 to 1")
    return value


def _compare(args: argparse.Namespace) -> None:
    results = readings.read()
    if args.results:
        found = compare.same(results, readings.read(args.results))
        print("\n".join(found) or f"equal to {args.results} but for digests: {len(results)} rows")
        if found:
            raise SystemExit(1)
        return
    portable = parse(yaml.safe_load(keep.portable_params(PATH.read_text(encoding="utf-8"))))
    made = artefact.read(args.name or portable.profile)
    limits = {} if args.tolerance is None else {compare.LEARNED: args.tolerance}
    places = pd.read_parquet(LOCALISATION) if LOCALISATION.is_file() else None
    text, holds = compare.report(results, portable, made, limits, places)
    print(text)
    if not holds:
        raise SystemExit(1)


def _page(args: argparse.Namespace) -> None:
    path = render.DOCS / f"page-{args.name or load_params().profile}.png"
    write_atomic(path, screenshot.png(PAGE))
    print(f"written: {path}", file=sys.stderr)


@one_line
def main(argv: list[str] | None = None) -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="benchmarks.publish", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="keep | render | compare | page")
    helps = {
        "keep": "copy the results of this run to docs/results/<profile>/",
        "render": "rewrite the blocks of README.md and docs/*.md, and the pictures",
        "compare": "print how far this run's results are from the kept ones; exit code 1 beyond",
        "page": "draw how the page of this run begins, docs/page-<profile>.png, by chromium",
    }
    functions = {"keep": _keep, "render": _render, "compare": _compare, "page": _page}
    for name, function in functions.items():
        command = commands.add_parser(name, help=helps[name], description=helps[name])
        command.set_defaults(function=function)
        if name != "render":
            command.add_argument("--name", help="folder in docs/results (default: the profile)")
        if name == "compare":
            command.add_argument(
                "--results", type=Path, metavar="PATH",
                help="compare with this results.parquet instead, to the bit but for digests",
            )  # fmt: skip
            command.add_argument("--tolerance", type=_tolerance, help=TOLERANCE)
    args = parser.parse_args(argv)
    args.function(args)


if __name__ == "__main__":
    main()
