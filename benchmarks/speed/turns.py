"""Ways to do one and the same work, timed in turns.

A machine gets slower and faster while it is measured, for all ways alike: so each turn runs every
way once, one after the other, and a ratio is one of a turn. The first turn warms up and is dropped.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

OURS = "ours"
SPREAD = ("min", "median", "max")
SCHEMA = pa.schema(
    [
        ("comparison", pa.string()),
        ("way", pa.string()),
        ("unit", pa.string()),  # what is counted
        ("work", pa.float64()),  # how many of it a turn does
        ("turns", pa.int64()),
        # Seconds of a turn, units in a second, and how many times as many units in a second ours
        # does (1 for ours itself).
        *((f"{what}_{s}", pa.float64()) for what in ("seconds", "rate", "ratio") for s in SPREAD),
        ("target", pa.float64()),  # the ratio that is aimed at, null where there is none
        ("note", pa.string()),
    ]
)


@dataclass(frozen=True)
class Race:
    """One comparison.

    Attributes:
        name: of the comparison, as the tables say it.
        ways: the ways by name, `OURS` among them; each does the work once when it is called.
        work: how much of a unit ("images") each way does in one call; ways may differ in it.
        note: what has to be known to read the numbers.
        target: the ratio that is aimed at, None where there is none.
        warm_up: whether a turn is run and dropped before the others.
        turns: how many, where they are to be fewer than of the other comparisons.
    """

    name: str
    ways: Mapping[str, Callable[[], object]]
    work: Mapping[str, Mapping[str, float]]
    note: str = ""
    target: float | None = None
    warm_up: bool = True
    turns: int | None = None


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return `min`, `median` and `max`.

    >>> spread([3.0, 1.0, 2.0])
    {'min': 1.0, 'median': 2.0, 'max': 3.0}
    """
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def alike(ways: Iterable[str], unit: str, amount: float) -> dict[str, dict[str, float]]:
    """Return the `work` of a race whose ways all do the same."""
    return {unit: dict.fromkeys(ways, float(amount))}


def seconds(race: Race, turns: int) -> dict[str, list[float]]:
    """Take turns: seconds of each way, one number per turn."""
    found: dict[str, list[float]] = {way: [] for way in race.ways}
    for turn in range(turns + race.warm_up):
        for way, call in race.ways.items():
            begin = time.perf_counter()
            call()
            taken = time.perf_counter() - begin
            is_dropped = race.warm_up and not turn
            said = "warm-up" if is_dropped else f"turn {turn + 1 - race.warm_up} of {turns}"
            print(f"speed: {race.name}, {way}, {said}: {taken:.2f} s", file=sys.stderr)
            if not is_dropped:
                found[way].append(taken)
    return found


def rows(race: Race, turns: int) -> Iterator[dict[str, Any]]:
    """Run a comparison and yield a row of `SCHEMA` for each unit and way."""
    turns = min(turns, race.turns or turns)
    taken = seconds(race, turns)
    for unit, work in race.work.items():
        rates = {way: [work[way] / one for one in each] for way, each in taken.items()}
        for way in race.ways:
            ratios = [ours / other for ours, other in zip(rates[OURS], rates[way], strict=True)]
            spreads = {"seconds": taken[way], "rate": rates[way], "ratio": ratios}
            yield {
                "comparison": race.name,
                "way": way,
                "unit": unit,
                "work": work[way],
                "turns": turns,
                **{f"{k}_{s}": v for k, each in spreads.items() for s, v in spread(each).items()},
                "target": None if way == OURS else race.target,
                "note": race.note,
            }
