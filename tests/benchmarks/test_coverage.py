"""Intervals hold the truth about as often as they say: simulated with the code of the matrix."""

from __future__ import annotations

import pytest

from benchmarks import coverage

BY_NAME = {scenario.name: scenario for scenario in coverage.SCENARIOS}
SEEDS, IMAGES, PERSONS = (
    "seeds differ much",
    "seeds are alike, images decide",
    "30 and 40 persons of 10 photographs",
)


def shares(name, trials):
    found = coverage.coverage(BY_NAME[name], trials)
    return {metric: share for metric, (share, _) in found.items()}


@pytest.mark.parametrize("name", [SEEDS, IMAGES, PERSONS])
def test_intervals_at_95_percent_hold_the_truth_in_93_to_97_percent_of_trials(name):
    # Of 400 trials one standard error is 1.1 points: what is asked for, and two of these.
    for metric, share in shares(name, 400).items():
        assert 0.93 - 0.022 <= share <= 0.97 + 0.022, (metric, share)


@pytest.mark.long
@pytest.mark.parametrize("name", list(BY_NAME))
def test_of_many_trials_too(name):
    for metric, share in shares(name, 2000).items():
        rare = metric == "auc" and "nearly all" in name  # an AUC of 0.999: see docs/numbers.md
        few = "6 and 8 persons" in name or metric == "fpr"
        assert (0.85 if rare else 0.93) - 0.01 <= share <= (0.99 if few else 0.98), (metric, share)


def test_quantiles_of_resampled_seeds_do_not_hold_it():
    """What intervals were before: three seeds say little about a spread."""
    found = coverage.coverage(BY_NAME[SEEDS], 400, beside=True)
    assert found["recall"][1] < 0.9 and found["auc"][1] < 0.85


def test_two_equal_methods_are_told_apart_in_one_of_twenty_trials():
    for metric, (held, significant) in coverage.compared(BY_NAME[IMAGES], 300).items():
        assert held >= 0.92, metric
        assert significant == pytest.approx(1 - held, abs=1e-9)


def test_the_truth_of_a_scenario_is_the_mean_of_what_is_measured():
    rng = coverage.np.random.default_rng(0)
    scenario = BY_NAME[PERSONS]
    true = coverage.truth(scenario, rng)
    measured = coverage.measure(scenario, coverage.draw(scenario, 300, rng))[0]
    for value, one in zip(true, measured, strict=True):
        values = one.values.mean(axis=0)
        assert values.mean() == pytest.approx(value, abs=4 * values.std() / 300**0.5)
