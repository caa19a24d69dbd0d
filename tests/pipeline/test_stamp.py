"""The quick look of stage `code`: quick, and never quick where something has changed.

That every edit which starts a stage is seen through it is shown by tests/pipeline/test_code.py,
which runs no other command.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import code, stamp

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with this project's params and DAG, the files of its stages and their stamp."""
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
        os.utime(tmp_path / name, (1, 1))
    monkeypatch.chdir(tmp_path)
    code.read_yaml.cache_clear()
    code.main()
    yield tmp_path
    code.read_yaml.cache_clear()


def test_where_nothing_has_changed_nothing_is_looked_at(project, monkeypatch):
    assert stamp.holds()
    monkeypatch.setattr(code, "main", lambda: pytest.fail("run again"))
    stamp.main()


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml", "data/code/folds.json"])
def test_a_file_that_changes_or_goes_is_seen(project, name):
    before = (project / name).read_bytes()
    (project / name).write_bytes(before + b"\n")
    assert not stamp.holds()
    (project / name).write_bytes(before)
    assert stamp.holds()
    (project / name).unlink()
    assert not stamp.holds()


def test_a_file_that_was_not_there_is_seen(project):
    (project / "generators").mkdir()
    (project / "generators/dvc.yaml").write_text("stages: {}\n")
    assert not stamp.holds()


def test_cards_and_templates_are_among_what_is_compared(project):
    read = json.loads(stamp.STAMP.read_text())["files"]
    assert "generators/weights/orl/dcgan.json" in read
    assert read[str(ROOT / "benchmarks/page/report.html.j2")]


def test_an_upgrade_of_a_library_is_seen(project, monkeypatch):
    packages = project / "packages"
    (packages / "torch-1.0.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(packages)
    assert not stamp.holds()
    code.main()
    assert stamp.holds()
    (packages / "torch-1.0.dist-info").rename(packages / "torch-1.1.dist-info")
    assert not stamp.holds()


def test_what_changes_while_it_is_read_is_looked_at_again(project):
    later = time.time() + 10  # than the run that begins now
    os.utime(project / "params.yaml", (later, later))
    stamp.STAMP.unlink()
    code.main()
    assert not stamp.STAMP.exists()


def test_a_run_that_fails_leaves_no_new_stamp(project):
    (project / "params.yaml").write_text("profile: [")
    with pytest.raises(SystemExit):
        stamp.main()
    assert not stamp.holds()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": 1, "folders": 2, "modules": 3}'])
def test_a_damaged_stamp_holds_nothing(project, content):
    stamp.STAMP.write_text(content)
    assert not stamp.holds()


def test_only_the_standard_library_is_imported():
    heavy = "{'yaml', 'pydantic', 'numpy', 'pipeline.code', 'pipeline.params'}"
    check = f"import sys, pipeline.stamp; sys.exit(bool({heavy} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)
