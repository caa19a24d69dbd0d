"""What a fit says that it read: honest ones pass, every other is caught."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.folds import Fold, Images, file_name, load
from pipeline.gates.reads import audit_reads, manifest_ids, reads_gate
from pipeline.params import Params


def record(fold: Fold, **parts: Images) -> dict:
    images_of = {"fit": fold.train, "selection": fold.valid, "threshold": fold.valid} | parts
    return {step: fold.describe_reads(part.ids) for step, part in images_of.items()}


@pytest.mark.parametrize("held_out", ["a", "none", "family:one"])
def test_an_honest_fit_passes(clean: Path, params: Params, tmp_path: Path, held_out: str):
    fold = load(params, clean).fold(held_out)
    gate = reads_gate("m", held_out, record(fold), params, manifest_ids(params, clean))
    assert gate.passed, gate.evidence


@pytest.mark.parametrize("step", ["fit", "selection", "threshold"])
def test_a_fit_that_read_the_held_out_generator_is_caught(clean: Path, params: Params, step: str):
    leaky = record(load(params, clean).fold("none"))  # a fit that loaded the wrong fold
    reads = record(load(params, clean).fold("a")) | {step: leaky[step]}
    gate = reads_gate("m", "a", reads, params, manifest_ids(params, clean))
    assert not gate.passed
    assert f"{step}: " in gate.evidence and "images of a/" in gate.evidence


@pytest.mark.parametrize("step", ["fit", "selection", "threshold"])
def test_a_fit_that_read_the_test_split_is_caught(clean: Path, params: Params, step: str):
    fold = load(params, clean).fold("a")
    seen = fold.test.subset(np.isin(fold.test.generators, ["real:orl", "b"]))
    gate = reads_gate("m", "a", record(fold, **{step: seen}), params, manifest_ids(params, clean))
    assert not gate.passed and f"{step}: 12 images of b/test" in gate.evidence


def test_a_member_of_a_held_out_family_is_caught(clean: Path, params: Params):
    fold = load(params, clean).fold("a")  # still trains on b, of the same family
    gate = reads_gate("m", "family:one", record(fold), params, manifest_ids(params, clean))
    assert not gate.passed and "images of b/train" in gate.evidence


def test_a_record_of_other_images_is_caught(clean: Path, params: Params):
    reads = record(load(params, clean).fold("a"))
    reads["fit"] = reads["fit"] | {"digest": "0" * 64}
    gate = reads_gate("m", "a", reads, params, manifest_ids(params, clean))
    assert not gate.passed and "not those of the manifests" in gate.evidence


def test_a_step_without_record_is_caught(clean: Path, params: Params):
    reads = record(load(params, clean).fold("a"))
    del reads["threshold"]
    gate = reads_gate("m", "a", reads, params, manifest_ids(params, clean))
    assert not gate.passed and "threshold: no record" in gate.evidence


def test_every_fit_that_params_names_is_judged(clean: Path, params: Params, tmp_path: Path):
    models = tmp_path / "models"
    for held_out in params.folds():
        home = models / "spectrum" / file_name(held_out) / "0"
        home.mkdir(parents=True)
        reads = record(load(params, clean).fold(held_out))
        (home / "reads.json").write_text(json.dumps(reads))
    gates = audit_reads(params, models, clean)
    assert [g.subject for g in gates] == [f"spectrum/{h}/0" for h in params.folds()]
    assert all(g.passed for g in gates)
    (home / "reads.json").unlink()
    with pytest.raises(UserError, match=r"holds no <seed>/reads.json; run the fit"):
        audit_reads(params, models, clean)
