from __future__ import annotations

import hashlib
from pathlib import Path

import yaml

from benchmarks import fit_code

ROOT = Path(__file__).parents[2]


def test_the_stage_depends_on_what_it_digests_and_on_itself():
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["fit-code"]
    assert set(stage["deps"]) == {*fit_code.CODE, "benchmarks/fit_code.py"}
    assert list(stage["outs"][0]) == [fit_code.OUT.as_posix()]


def test_every_python_file_below_is_digested_by_its_content():
    found = fit_code.digests(ROOT)
    assert {"benchmarks/fit.py", "benchmarks/methods/deepfd.py", "deepfd/train.py"} <= {*found}
    content = (ROOT / "deepfd/train.py").read_bytes()
    assert found["deepfd/train.py"] == hashlib.sha256(content).hexdigest()
    assert all(name.endswith(".py") for name in found)
