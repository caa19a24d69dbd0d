"""What is kept is of a commit, of this run, and names no place."""

from __future__ import annotations

import json
import re
import subprocess

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from benchmarks.comparisons import SCHEMA as COMPARISONS_SCHEMA
from benchmarks.publish import artefact, keep
from benchmarks.readings import RESULTS_SCHEMA
from pipeline import params as params_module
from pipeline.errors import UserError
from pipeline.folds import file_name
from pipeline.manifest import write_table

from .conftest import PHOTOGRAPHS, values

PLACES = """\
# photographs lie in /home/me/pictures/2k, say FACES=/path/to/them
path: /home/me/my photos/photos2k
identities: ../identity.txt
command: [python, /opt/tools/make.py, --out=/tmp/there/]
url: https://example.com/a/b
weights: generators/weights/orl/ddpm # 1/2 of it
"""


def test_of_absolute_paths_the_last_part_stays_and_all_else_as_it_is():
    text = keep.portable_params(PLACES)
    assert yaml.safe_load(text) == {
        "path": "photos2k",
        "identities": "../identity.txt",
        "command": ["python", "make.py", "--out=there"],
        "url": "https://example.com/a/b",
        "weights": "generators/weights/orl/ddpm",
    }
    assert text.startswith("# photographs lie in 2k, say FACES=them\n") and "# 1/2 of it" in text


@pytest.fixture
def clone(tmp_path):
    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
        subprocess.run(["git", "-C", tmp_path, *who, *arguments], check=True, capture_output=True)

    git("init", "-q")
    for name in ("params.yaml", "profiles/p/params.yaml", "docs/a.md", "README.md", "code.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before")
    git("add", ".")
    git("commit", "-qm", "all")
    return tmp_path, git


def test_a_run_may_change_params_profiles_and_documents_and_no_code(clone):
    folder, git = clone
    at = keep.commit(folder)
    assert re.fullmatch("[0-9a-f]{40}", at)
    for name in ("params.yaml", "docs/a.md", "README.md"):
        (folder / name).write_text("after")
    (folder / "profiles/p/params.yaml").unlink()
    (folder / "new.txt").write_text("not tracked")
    assert keep.commit(folder) == at
    (folder / "code.py").write_text("after")
    with pytest.raises(UserError, match=r"changed since the last commit: code\.py; expected"):
        keep.commit(folder)
    (folder / "code.py").write_text("before")
    git("mv", "code.py", "docs/code.py")
    with pytest.raises(UserError, match=r"code\.py"):
        keep.commit(folder)


def test_outside_a_clone_there_is_no_commit(tmp_path):
    with pytest.raises(UserError, match="expected a clone"):
        keep.commit(tmp_path)


def test_results_of_other_methods_folds_code_or_images_are_refused(built):
    params, results, _ = built
    code = {name: f"code of {name}" for name in params.methods}
    keep.check(results, params, code, "d")
    with pytest.raises(UserError, match="has plain by code code of plain, and that of this commit"):
        keep.check(results, params, code | {"plain": "new"}, "d")
    with pytest.raises(UserError, match="is of other images"):
        keep.check(results, params, code, "e")
    with pytest.raises(UserError, match="differ in the methods dct"):
        keep.check(results[results["method"] != "dct"], params, code, "d")
    with pytest.raises(UserError, match="differ in what is held out, real:near"):
        keep.check(results[results["fold"] != "real:near"], params, code, "d")


def test_durations_are_medians_by_method():
    timings = pd.DataFrame(
        [("a", 1.0, "CPU"), ("a", 2.0, "CPU"), ("a", 9.0, "GPU"), ("b", 4.0, "CPU")],
        columns=["method", "seconds", "device"],
    )
    assert keep.durations(timings) == {
        "a": {"fits": 3, "seconds_median": 2.0, "seconds_total": 12.0, "device": "CPU, GPU"},
        "b": {"fits": 1, "seconds_median": 4.0, "seconds_total": 4.0, "device": "CPU"},
    }
    with pytest.raises(UserError, match="no timing"):
        keep.durations(timings[:0])


@pytest.fixture
def run(built, tmp_path, monkeypatch):
    """A finished run in a folder of its own, whose photographs lie at absolute paths."""
    monkeypatch.chdir(tmp_path)
    photographs = {n: c | {"path": f"{tmp_path}/at home/{n}"} for n, c in PHOTOGRAPHS.items()}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values(photographs=photographs)))
    _, results, comparisons = built
    audit = pd.DataFrame(
        [("broken", "near", 0.0, f"{tmp_path}/near/1.jpg is no picture", None)],
        columns=["gate", "subject", "value", "evidence", "empty"],
    ).astype({"empty": "string"})
    for path, rows, schema in (
        (keep.RESULTS, results, RESULTS_SCHEMA),
        (keep.COMPARISONS, comparisons, COMPARISONS_SCHEMA),
        *((path, audit, None) for path in keep.AUDITS),
    ):
        write_table(path, pa.Table.from_pandas(rows, schema, preserve_index=False))
    params = params_module.load()
    for method in params.methods:
        for held_out in params.folds():
            home = tmp_path / "models" / method / file_name(held_out) / "0"
            home.mkdir(parents=True)
            timing = json.dumps({"seconds": 3.0, "device": "a CPU"})
            (home / "timing.json").write_text(timing)
    return tmp_path, params, results


def test_a_run_is_kept_without_any_place_and_read_back(run):
    here, params, results = run
    folder = keep.keep(params, results, "f" * 40, "small")
    names = {path.name for path in folder.iterdir()}
    tables = {f"{name}.parquet" for name in ("results", "comparisons", "audit", "reads")}
    assert names == {"params.yaml", "provenance.json", *tables}
    for path in folder.iterdir():
        text = (
            path.read_text() if path.suffix != ".parquet" else str(pq.read_table(path).to_pydict())
        )
        assert str(here) not in text and "at home" not in text
    audit = pq.read_table(folder / "audit.parquet").to_pydict()
    assert audit["evidence"] == ["1.jpg is no picture"] and audit["empty"] == [None]
    kept = artefact.read("small", here / artefact.FOLDER)
    pd.testing.assert_frame_equal(kept.results, results.reset_index(drop=True))
    assert kept.params.photographs["far"].path == "far"
    made = kept.provenance
    assert made["command"] == ("make benchmark PROFILE=small FACES=near=near,other=other,far=far")
    assert made["commit"] == "f" * 40
    assert made["params_sha256"] == artefact.params_digest(kept.params)
    assert made["fits"]["dct"]["fits"] == len(params.folds())
    assert made["machine"]["cores"] >= 1 and made["versions"]["numpy"] == np.__version__


def test_to_keep_again_replaces_the_folder_and_a_failure_leaves_it(run):
    _, params, results = run
    folder = keep.keep(params, results, "f" * 40, "small")
    (folder / "left.parquet").write_bytes(b"of before")
    assert keep.keep(params, results, "e" * 40, "small") == folder
    assert not (folder / "left.parquet").exists()
    keep.AUDITS[0].unlink()
    with pytest.raises(UserError, match=r"audit\.parquet not found; run dvc repro"):
        keep.keep(params, results, "d" * 40, "small")
    assert artefact.read("small").provenance["commit"] == "e" * 40
    assert [path.name for path in artefact.FOLDER.iterdir()] == ["small"]
