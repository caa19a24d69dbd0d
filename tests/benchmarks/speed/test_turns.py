"""Ratios are those of a turn, and every unit has its rows."""

import pytest

from benchmarks.speed import turns
from benchmarks.speed.turns import OURS, SCHEMA, Race, alike, rows


@pytest.fixture
def clock(monkeypatch):
    """A clock that ways move by themselves."""
    now = [0.0]
    monkeypatch.setattr(turns.time, "perf_counter", lambda: now[0])

    def way(*takes):
        left = iter(takes)

        def call():
            now[0] += next(left)

        return call

    return way


def test_a_ratio_is_one_of_a_turn_and_the_first_turn_is_dropped(clock):
    # The machine is four times slower in the last turn: for both.
    ways = {OURS: clock(50, 1, 1, 4), "peer": clock(1, 3, 2, 8)}
    ours, peer = rows(Race("a", ways, alike(ways, "images", 12), target=2.5), turns=3)
    assert (peer["ratio_min"], peer["ratio_median"], peer["ratio_max"]) == (2, 2, 3)
    assert (ours["ratio_min"], ours["ratio_max"]) == (1, 1)
    assert (ours["rate_min"], ours["rate_median"], ours["rate_max"]) == (3, 12, 12)
    assert peer["seconds_median"] == 3 and peer["turns"] == 3
    assert peer["target"] == 2.5 and ours["target"] is None
    assert set(ours) == set(SCHEMA.names)


def test_ways_that_do_more_in_a_turn_are_paid_for_it(clock):
    ways = {OURS: clock(2, 2), "peer": clock(1, 1)}
    work = {"pairs": {OURS: 80, "peer": 4}, "images": {OURS: 10, "peer": 10}}
    found = list(rows(Race("a", ways, work), turns=1))
    ratios = {(row["unit"], row["way"]): row["ratio_median"] for row in found}
    assert ratios == {
        ("pairs", OURS): 1, ("pairs", "peer"): 10, ("images", OURS): 1, ("images", "peer"): 0.5,
    }  # fmt: skip


def test_a_race_may_ask_for_fewer_turns_and_for_no_warm_up(clock):
    ways = {OURS: clock(1), "peer": clock(2)}
    (_, peer) = rows(Race("a", ways, alike(ways, "x", 1), warm_up=False, turns=1), turns=5)
    assert peer["turns"] == 1 and peer["ratio_median"] == 2
