"""The sample stage is as fast as the loop that diffusers documents."""

from pathlib import Path

import pytest
import yaml

from benchmarks.speed import sampling
from benchmarks.speed import turns as turns_module
from benchmarks.speed.turns import OURS
from pipeline import params
from pipeline.errors import UserError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def orl(monkeypatch):
    monkeypatch.chdir(ROOT)
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    entry = {"adapter": "diffusers", "family": "diffusion", "images": 1, "batch": 8, "steps": 5}
    values["generators"]["ddpm"] = entry | {"weights": "generators/weights/orl/ddpm"}
    values["faces"] = {**values["faces"], "size": 64, "channels": 1}
    return params.parse(values)


def ratios(run, images, turns):
    (race,) = sampling.races("ddpm", run, images)
    return {row["way"]: row["ratio_median"] for row in turns_module.rows(race, turns)}


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_sample_stage_keeps_up_with_the_plain_loop(orl):
    found = ratios(orl, images=32, turns=5)
    print(found)
    assert found[sampling.PLAIN] > 0.8  # equal but for noise of a shared machine


def test_all_ways_run_and_others_than_diffusers_are_refused(orl):
    found = ratios(orl, images=1, turns=1)
    assert set(found) == {OURS, sampling.PLAIN, sampling.FORWARD} and min(found.values()) > 0
    with pytest.raises(UserError, match="'dcgan' is no unconditional diffusers entry"):
        sampling.races("dcgan", orl, images=1)
