"""Labels dealt at random: no method may seem to know them, whatever it is told of the images."""

from __future__ import annotations

from typing import get_args

import pytest

from benchmarks import fit, matrix, scores
from benchmarks.methods import METHODS
from benchmarks.readings import left_out, whole
from pipeline import params

COLOUR_ONLY = {"colour", "colour_rgb"}
# Few steps, but enough to learn a checkerboard; classes whose key is fixed at 0 keep that.
STEPS = {
    "width": 8, "widths": (8, 16), "crop": 16, "contrastive_steps": 5, "classifier_steps": 20,
    "steps": 25, "batch": 16, "lr": 0.003,
}  # fmt: skip


def options(name):
    """A block of `methods` for a registered method."""
    for kind in get_args(get_args(params.Method)[0]):
        fields = kind.model_fields
        if name in get_args(fields["method"].annotation):
            fixed = {key for key, field in fields.items() if field.default == 0}
            values = {k: v for k, v in STEPS.items() if k in fields and k not in fixed}
            return {"method": name, **values}
    raise AssertionError(name)


@pytest.mark.long
@pytest.mark.parametrize("name", list(METHODS))
def test_the_interval_of_the_auc_contains_one_half(name, small_profile, tmp_path, monkeypatch):
    """Through the very stages of a run, with three seeds."""
    monkeypatch.chdir(tmp_path)
    run = small_profile(
        count=600,
        channels=3 if name in COLOUR_ONLY else 1,
        shuffled=True,
        methods={name: options(name)},
        fit={"seeds": [0, 1, 2]},
        matrix={"threshold": {"rule": "fpr", "fpr": 0.05}, "bootstrap": 500},
        method_sets={},
    )[0]
    for fold in run.folds():
        fit.Run(run, name, "d").fold(fold)
    results, _ = matrix.build(run, scores.read(run))
    cells = left_out(whole(results))
    assert len(cells) == 3
    # The cells share their photographs, so that chance moves them together; it moves 150 against
    # 150 by 0.033 (one standard deviation), and one interval of twenty beyond its end.
    near = (cells["auc_low"] < 0.5) & (cells["auc_high"] > 0.5)
    assert near.sum() >= 2 and cells["auc"].sub(0.5).abs().max() < 0.1, cells["auc"].tolist()
