"""Perturbations in a fit: rows of their own, and no detector fitted again for one more."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks import fit
from benchmarks.methods.spectrum import Spectrum
from benchmarks.perturb import perturb
from pipeline import folds


@pytest.fixture
def project(small_profile, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return small_profile()[0]


def scores_of(params, *perturbations):
    run = params.model_copy(update={"perturbations": perturbations})
    fit.Run(run, "spectrum", "d").fold("c")
    scores = pq.read_table(fit.scores_path("spectrum", "c")).to_pandas()
    return scores[scores["split"] == "test"].reset_index(drop=True)


def test_each_perturbation_is_scored_on_every_test_image_at_the_one_threshold(project):
    scores = scores_of(project, "none", "jpeg50")
    assert list(scores["perturbation"].unique()) == ["none", "jpeg50"]
    assert scores["threshold"].nunique() == 1
    fold = folds.load(project).fold("c")
    found = scores[scores["perturbation"] == "jpeg50"]
    assert found["image_id"].tolist() == fold.test.ids.tolist()
    model = Spectrum.load(fit.MODELS / "spectrum/c/0")
    expected = model.score(perturb("jpeg50", fold.test.pixels, fold.test.ids))
    np.testing.assert_array_equal(found["score"], expected)


def test_a_further_perturbation_fits_nothing_again_and_a_removed_one_is_gone(project, monkeypatch):
    clean = scores_of(project, "none")
    monkeypatch.setattr(Spectrum, "fit", None)  # a second fit would raise
    more = scores_of(project, "none", "blur")
    assert more[more["perturbation"] == "none"]["score"].tolist() == clean["score"].tolist()
    assert scores_of(project, "none").equals(clean)
