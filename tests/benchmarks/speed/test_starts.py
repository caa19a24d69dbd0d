"""Commands start fast: what a stage does not need is not imported before it is needed."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks.speed import starts
from benchmarks.speed.turns import OURS
from pipeline import code

ROOT = Path(__file__).parents[3]
# These compute with torch; the others read and write tables, or import it with the method.
WITH_TORCH = {"generators.sample", "benchmarks.localise"}
HEAVY = "{'torch', 'prefect', 'diffusers', 'sklearn', 'matplotlib', 'datasets'}"


def modules():
    dag, values = (yaml.safe_load((ROOT / n).read_text()) for n in ("dvc.yaml", "params.yaml"))
    return sorted({stage.module for stage in code.stages(dag, values)} | {"pipeline.stamp"})


@pytest.mark.parametrize("module", sorted(set(modules()) - WITH_TORCH))
def test_a_stage_that_needs_no_torch_imports_none(module):
    check = f"import sys, {module}; sys.exit(', '.join({HEAVY} & sys.modules.keys()) or 0)"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, done.stderr


def processor_seconds(*command):
    """Of the fastest of three runs: what other processes take of the machine does not count."""
    found = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


@pytest.mark.long  # a busy machine is slower in processor seconds, too
def test_what_needs_no_torch_starts_in_half_a_second():
    found = {m: processor_seconds("-c", f"import {m}") for m in set(modules()) - WITH_TORCH}
    found["--help"] = processor_seconds("-m", "benchmarks.fit", "--help")
    print(found)
    assert max(found.values()) < 0.5


def test_commands_are_timed_and_those_of_a_finished_project_only_there(monkeypatch, capsys):
    monkeypatch.setattr(starts, "is_finished", lambda: False)
    (race,) = starts.races()
    assert race.name == "benchmarks.fit --help" and "not finished" in capsys.readouterr().err
    assert race.ways[OURS]().returncode == 0
    monkeypatch.setattr(starts, "is_finished", lambda: True)
    assert [one.name for one in starts.races()][1:] == ["dvc repro, nothing to do"]


def test_a_command_that_fails_is_not_timed_as_if_it_had_not(monkeypatch, tmp_path):
    monkeypatch.setattr(starts, "TOP", tmp_path)
    (tmp_path / "dvc").mkdir()
    (tmp_path / "dvc/__main__.py").write_text("raise SystemExit(1)")
    with pytest.raises(subprocess.CalledProcessError):
        starts._run("dvc", "repro")
