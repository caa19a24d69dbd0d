"""The sample stage is as fast as the loop that diffusers documents."""

from pathlib import Path

import pytest
import yaml

from benchmarks.speed import sampling
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


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_sample_stage_keeps_up_with_the_plain_loop(orl):
    rates = sampling.compare("ddpm", orl, images=32, rounds=5)
    print(rates)
    assert rates["stage"] > 0.8 * rates["plain"]  # equal but for noise of a shared machine


def test_both_ways_run_and_others_than_diffusers_are_refused(orl):
    rates = sampling.compare("ddpm", orl, images=1, rounds=1)
    assert set(rates) == {"plain", "stage"} and min(rates.values()) > 0
    with pytest.raises(UserError, match="'dcgan' is no unconditional diffusers entry"):
        sampling.compare("dcgan", orl, images=1, rounds=1)
