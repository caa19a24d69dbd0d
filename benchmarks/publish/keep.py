"""Take the results of a finished run into docs/results/<profile>/, with where they come from.

Nothing that is kept names a place on this machine: of an absolute path its last part stays.
"""

from __future__ import annotations

import datetime
import json
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.comparisons import COMPARISONS
from benchmarks.localisation import OUT as LOCALISATION
from benchmarks.page.report import AUDITS, read_timings
from benchmarks.publish.artefact import FOLDER, PARAMS, PROVENANCE, params_digest
from benchmarks.readings import RESULTS
from benchmarks.scores import LIBRARIES
from pipeline import cores, folds
from pipeline.code import digest_of_method
from pipeline.errors import UserError
from pipeline.manifest import swap_in, write_atomic, write_table
from pipeline.params import PATH, Params, parse

NEEDED = (RESULTS, COMPARISONS, *AUDITS)
OPTIONAL = (LOCALISATION,)
# Besides those that move a score: what makes pictures and tables.
VERSIONS = (*LIBRARIES, "diffusers", "pandas", "pillow", "pyarrow")
# What a run may change of a clean clone: which profile is active, and what is said of it.
FREE = re.compile(r"params\.yaml|profiles/[^/]+/.*|docs/.*|.*\.md|dvc\.lock|.*/dvc\.lock")
_PART = r"[^\s'\",:;()\[\]{}<>|=]+"
_ABSOLUTE = re.compile(rf"(?<![\w./~-])~?/(?!/)(?:{_PART}/)*({_PART})/?")


def without_places(text: str) -> str:
    """Put the last part of every absolute path of a text in its place.

    >>> without_places("python /data/me/tools/run.py --out=/tmp/here/ a/b http://host/c 1/2")
    'python run.py --out=here a/b http://host/c 1/2'
    """
    return _ABSOLUTE.sub(lambda found: found[1].rstrip("/").rpartition("/")[2], text)


def _texts(values: Any) -> Iterator[str]:
    """Yield every text in a tree of dicts and lists."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, dict | list):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _texts(value)


def portable_params(text: str) -> str:
    """Write the text of params.yaml without places of this machine; all else stays as it is.

    A value that is one path may have spaces in it; of other text `without_places` finds the paths.
    """
    for value in sorted(set(_texts(yaml.safe_load(text))), key=len, reverse=True):
        if Path(value).is_absolute():
            text = text.replace(value, Path(value).name)
    return without_places(text)


def portable_table(table: pa.Table) -> pa.Table:
    """Write a table without places of this machine."""
    for index, field in enumerate(table.schema):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            column = [t if t is None else without_places(t) for t in table[index].to_pylist()]
            table = table.set_column(index, field, pa.array(column, field.type))
    return table


def changed_code(status: str) -> list[str]:
    """Name the tracked files, of `git status --porcelain -z`, that a run may not have changed."""
    entries, changed = status.split("\0"), []
    while entries:
        entry = entries.pop(0)
        if not entry:
            continue
        paths = [entry[3:]]
        if "R" in entry[:2] or "C" in entry[:2]:
            paths.append(entries.pop(0))  # where it came from
        changed += [path for path in paths if not FREE.fullmatch(path)]
    return changed


def commit(folder: Path = Path()) -> str:
    """Return the commit of a clone.

    Raises:
        UserError: there is none, or tracked files of the code have been changed since.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            why = getattr(error, "stderr", None) or error
            raise UserError(f"{' '.join(command[3:])} failed ({why}); expected a clone") from None
        return done.stdout

    if changed := changed_code(git("status", "--porcelain", "-z", "--untracked-files=no")):
        raise UserError(
            f"changed since the last commit: {', '.join(changed)}; expected the code of a commit: "
            "commit, and run dvc repro again"
        )
    return git("rev-parse", "HEAD").strip()


def check(results: pd.DataFrame, params: Params, code: Mapping[str, str], data: str) -> None:
    """See to it that results are those of these params, this code and these images.

    Args:
        results: rows of results.parquet.
        params: the checked params.yaml.
        code: method -> digest of the code that fits it.
        data: digest of data/folds.json.

    Raises:
        UserError: they are not.
    """
    again = "run dvc repro, then keep"
    methods = set(results["method"])
    if methods != set(params.methods):
        odd = ", ".join(sorted(methods ^ set(params.methods)))
        raise UserError(f"{RESULTS} and params.yaml differ in the methods {odd}; {again}")
    if set(results["fold"]) != set(params.folds()):
        odd = ", ".join(sorted(set(results["fold"]) ^ set(params.folds())))
        raise UserError(f"{RESULTS} and params.yaml differ in what is held out, {odd}; {again}")
    for method, rows in results.groupby("method", sort=False):
        if set(rows["code"]) != {code[str(method)]}:
            raise UserError(
                f"{RESULTS} has {method} by code {', '.join(sorted(set(rows['code'])))}, and that "
                f"of this commit, with the libraries that are installed, is {code[str(method)]}; "
                f"{again}"
            )
    if set(results["data"]) != {data}:
        raise UserError(f"{RESULTS} is of other images than {folds.INDEX} says; {again}")


def machine() -> dict[str, Any]:
    """Describe this machine: `cpu`, `cores` that may be used, `gpu`."""
    import torch

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file() and (found := re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.M)):
        cpu = found[1].strip()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {"cpu": cpu, "cores": cores.available(), "gpu": gpu}


def durations(timings: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Sum up how long the fits took, by method.

    Args:
        timings: rows of `method`, `seconds`, `device`, one per fit.

    Raises:
        UserError: there are none.
    """
    if timings.empty:
        raise UserError("models/ has no timing.json of a fit; expected what dvc repro leaves there")
    return {
        str(method): {
            "fits": len(rows),
            "seconds_median": round(float(rows["seconds"].median()), 2),
            "seconds_total": round(float(rows["seconds"].sum()), 1),
            "device": ", ".join(sorted(set(rows["device"]))),
        }
        for method, rows in timings.groupby("method", sort=False)
    }


def command(params: Params) -> str:
    """Return the command that makes the results in a clone, with the names of the photographs."""
    paths = {n: c.path for n, c in params.photographs.items() if getattr(c, "path", None)}
    if not paths:
        return f"make benchmark PROFILE={params.profile}"
    faces = ",".join(f"{name}={path}" for name, path in paths.items())
    return f"make benchmark PROFILE={params.profile} FACES={faces}"


def provenance(
    params: Params, results: pd.DataFrame, timings: pd.DataFrame, at: str
) -> dict[str, Any]:
    """Say where results come from.

    Args:
        params: without places (`portable_params`).
        results: rows of results.parquet.
        timings: see `durations`.
        at: the commit.
    """
    return {
        "profile": params.profile,
        "commit": at,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": command(params),
        "params_sha256": params_digest(params),
        "data_sha256": str(results["data"].iloc[0]),
        "machine": machine(),
        "versions": {
            "python": platform.python_version(),
            **{library: version(library) for library in sorted(VERSIONS)},
        },
        "fits": durations(timings),
    }


def keep(params: Params, results: pd.DataFrame, at: str, name: str, folder: Path = FOLDER) -> Path:
    """Put what lies in benchmarks/ into a folder of its own; it appears whole or not at all.

    Args:
        params: the checked params.yaml.
        results: rows of results.parquet.
        at: the commit.
        name: of the folder.
        folder: where it lies.

    Raises:
        UserError: a file is missing, or there are no durations.
    """
    if missing := [str(path) for path in NEEDED if not path.is_file()]:
        raise UserError(f"{', '.join(missing)} not found; run dvc repro")
    text = portable_params(PATH.read_text(encoding="utf-8"))
    about = provenance(parse(yaml.safe_load(text)), results, read_timings(params), at)
    fresh = folder / f".{name}.tmp"
    shutil.rmtree(fresh, ignore_errors=True)
    for path in (*NEEDED, *(path for path in OPTIONAL if path.is_file())):
        write_table(fresh / path.name, portable_table(pq.read_table(path)))
    write_atomic(fresh / PARAMS, text.encode())
    write_atomic(fresh / PROVENANCE, (json.dumps(about, indent=1) + "\n").encode())
    swap_in(fresh, folder / name)
    return folder / name


def checked(params: Params, results: pd.DataFrame) -> None:
    """Run `check` with the code and the images as they lie here."""
    code = {name: digest_of_method(method.method) for name, method in params.methods.items()}
    check(results, params, code, folds.data_digest(params))
