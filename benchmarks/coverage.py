"""How often do the intervals hold the truth? Simulated, where the truth is known.

`python -m benchmarks.coverage` prints the table of docs/numbers.md. Each trial draws persons,
photographs, fakes and seeds anew, measures recall, false-positive rate and AUC as the matrix does
(threshold by `benchmarks.thresholds`, resamples by `benchmarks.resample`, bounds by
`benchmarks.intervals`), and asks whether what it bounds, the mean over all trials that could be
drawn, lies within. Trials stand where those modules have metrics: all of them at once.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

from benchmarks.intervals import TAIL, Estimate, Measured, bounds, difference
from benchmarks.resample import draw_weights
from benchmarks.thresholds import fpr_thresholds

COVERED = ("recall", "fpr", "auc")
TARGET = 0.05
RESAMPLES = 300
TRUTH = 40_000  # trials that the truth is the mean of


@dataclass(frozen=True)
class Scenario:
    """What is drawn. Scores are normal before they are squeezed into [0, 1], which changes nothing.

    Attributes:
        name: in the table.
        seeds: fits of a fold.
        folds: generators left out; their photographs are the same.
        valid: (persons, photographs of each) that the threshold is set on.
        test: the same of the test photographs.
        fakes: of each fold.
        gap: mean score of fakes, in standard deviations of the photographs'.
        seed: standard deviation of `gap` over seeds.
        alike: correlation of two photographs of one person.
        stable: correlation of an image's scores by two seeds.
    """

    name: str
    seeds: int = 3
    folds: int = 1
    valid: tuple[int, int] = (100, 1)
    test: tuple[int, int] = (120, 1)
    fakes: int = 120
    gap: float = 2.0
    seed: float = 0.0
    alike: float = 0.0
    stable: float = 0.8


SCENARIOS = (
    Scenario("seeds differ much", seed=0.5),
    Scenario("seeds differ much, mean over 6 folds", seed=0.5, folds=6),
    Scenario("seeds differ as much as images", seed=0.15),
    Scenario("seeds are alike, images decide", fakes=60, test=(80, 1), valid=(60, 1), stable=0.95),
    Scenario("a method that draws nothing", seeds=1, fakes=60, test=(80, 1), valid=(60, 1)),
    Scenario("30 and 40 persons of 10 photographs", seeds=1, valid=(30, 10), test=(40, 10),
             alike=0.4),
    Scenario("6 and 8 persons of 10 photographs", seeds=1, valid=(6, 10), test=(8, 10), alike=0.4),
    Scenario("nearly all are caught", seeds=1, gap=4.2, fakes=90),
)  # fmt: skip


@dataclass(frozen=True)
class Trials:
    """Scores of T trials: seed and fold -> (T, images); the images are those of all seeds."""

    valid: np.ndarray  # (seeds, folds, T, photographs)
    test: np.ndarray
    fakes: np.ndarray


def draw(scenario: Scenario, trials: int, rng: np.random.Generator) -> Trials:
    """Draw trials of a scenario."""
    fits = (scenario.seeds, scenario.folds)
    steady, noise = np.sqrt(scenario.stable), np.sqrt(1 - scenario.stable)

    def photographs(persons: int, each: int) -> np.ndarray:
        whose = np.repeat(rng.normal(size=(trials, persons)), each, axis=1)
        own = rng.normal(size=whose.shape)
        image = np.sqrt(scenario.alike) * whose + np.sqrt(1 - scenario.alike) * own
        return steady * image + noise * rng.normal(size=(*fits, *image.shape))

    image = rng.normal(size=(scenario.folds, trials, scenario.fakes))
    gaps = scenario.gap + scenario.seed * rng.normal(size=(*fits, trials, 1))
    fakes = gaps + steady * image + noise * rng.normal(size=(*fits, *image.shape[1:]))
    return Trials(photographs(*scenario.valid), photographs(*scenario.test), fakes)


def truth(scenario: Scenario, rng: np.random.Generator) -> np.ndarray:
    """Mean of recall, fpr and AUC over all that can be drawn, float (3,).

    Given the threshold, recall and fpr are known; the mean over thresholds and seeds is of `TRUTH`
    trials. What seeds and folds share changes no mean.
    """
    alone = replace(scenario, seeds=1, folds=1, test=(1, 1), fakes=1)
    parts = []
    for _ in range(10):
        valid = draw(alone, TRUTH // 10, rng).valid[0, 0]
        weights = np.ones((valid.shape[1], 1))
        limits = np.array([fpr_thresholds(row, weights, TARGET)[0] for row in valid])
        gaps = scenario.gap + scenario.seed * rng.normal(size=len(limits))
        parts.append(
            [norm.sf(limits - gaps).mean(), norm.sf(limits).mean(), norm.cdf(gaps / 2**0.5).mean()]
        )
    return np.mean(parts, axis=0)


def _weights(persons: int, each: int, name: str, base: int) -> np.ndarray:
    return np.repeat(draw_weights(persons, RESAMPLES, base, name), each, axis=0)


def _rates(scores: np.ndarray, limits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share at or above the limit: scores (T, n), limits (T, B), weights (n, B) -> (T, B)."""
    called = [
        (scores >= limit[:, None]) @ weight
        for limit, weight in zip(limits.T, weights.T, strict=True)
    ]
    return np.stack(called, axis=1) / weights.sum(axis=0)


def _auc(
    fakes: np.ndarray, photographs: np.ndarray, over: np.ndarray, under: np.ndarray
) -> np.ndarray:
    """Weighted share of pairs in order: (T, n), (T, m), weights (n, B), (m, B) -> (T, B)."""
    total = over.sum(axis=0) * under.sum(axis=0)
    return np.stack(
        [
            (((f[:, None] > p[None]) @ under) * over).sum(axis=0) / total
            for f, p in zip(fakes, photographs, strict=True)
        ]
    )


def measure(
    scenario: Scenario, trials: Trials, base: int = 0, *, fixed: bool = False
) -> list[list[Measured]]:
    """Measure every fold as the matrix does; trials stand where metrics do.

    Args:
        scenario: what was drawn.
        trials: the scores.
        base: seed of the resamples.
        fixed: keep the threshold, as if it were known.

    Returns:
        for each fold, what was measured for each of `COVERED`.
    """
    drawn = {
        "valid": _weights(*scenario.valid, "valid", base),
        "test": _weights(*scenario.test, "test", base),
    }
    out = []
    for fold in range(scenario.folds):
        drawn["fakes"] = _weights(scenario.fakes, 1, f"fakes {fold}", base)
        once = {name: np.ones((len(weights), 1)) for name, weights in drawn.items()}
        tables = [
            _tables(*(part[seed, fold] for part in (trials.valid, trials.test, trials.fakes)),
                    once, drawn, fixed)
            for seed in range(scenario.seeds)
        ]  # fmt: skip
        out.append(
            [
                Measured(*(np.stack([table[when][i] for table in tables]) for when in (0, 1)))
                for i in range(len(COVERED))
            ]
        )
    for fold in out:
        for i, one in enumerate(fold):
            fold[i] = Measured(one.values[..., 0], one.tables)
    return out


def _tables(
    valid: np.ndarray,
    test: np.ndarray,
    fakes: np.ndarray,
    once: dict[str, np.ndarray],
    drawn: dict[str, np.ndarray],
    fixed: bool,
) -> list[list[np.ndarray]]:
    """Measure one fit, scores (T, images): [as they are, (T, 1) each; resampled, (T, B) each]."""
    out = []
    for weights in (once, drawn):
        setting = once if fixed else weights
        limits = np.stack([fpr_thresholds(row, setting["valid"], TARGET) for row in valid])
        limits = np.broadcast_to(limits, (len(limits), weights["test"].shape[1]))
        out.append(
            [
                _rates(fakes, limits, weights["fakes"]),
                _rates(test, limits, weights["test"]),
                _auc(fakes, test, weights["fakes"], weights["test"]),
            ]
        )
    return out


def sizes(scenario: Scenario) -> list[tuple[float, float, float]]:
    """Images, independent units and degrees of freedom behind each of `COVERED`."""
    valid, test, fakes = scenario.valid[0], scenario.test[0], scenario.fakes * scenario.folds
    return [
        (fakes, fakes, min(valid, scenario.fakes) - 1),
        (test * scenario.test[1], test, min(valid, test) - 1),
        (np.inf, min(fakes, test), min(test, scenario.fakes) - 1),
    ]


def percentile(folds: list[Measured], base: int) -> tuple[np.ndarray, np.ndarray]:
    """Bound by quantiles of resampled images and seeds: what was done before, for comparison."""
    tables = []
    for i, fold in enumerate(folds):
        seeds = len(fold.tables)
        rng = np.random.default_rng([base, i])
        drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES).T / seeds
        tables.append((fold.tables * drawn[:, None]).sum(axis=0))
    low, high = np.quantile(np.mean(tables, axis=0), [TAIL, 1 - TAIL], axis=-1)
    return low, high


def coverage(
    scenario: Scenario, trials: int, base: int = 0, *, beside: bool = False
) -> dict[str, tuple[float, float]]:
    """Simulate a scenario.

    Args:
        scenario: what is drawn.
        trials: how many.
        base: seed of all draws.
        beside: whether to try the percentile bootstrap too.

    Returns:
        metric -> share of trials whose interval holds the truth, and the same of `percentile`.
    """
    rng = np.random.default_rng([base, len(scenario.name), scenario.folds, scenario.seeds])
    true, scores = truth(scenario, rng), draw(scenario, trials, rng)
    measured = measure(scenario, scores, base)
    known = measure(scenario, scores, base, fixed=True) if beside else None
    out = {}
    for i, (name, size) in enumerate(zip(COVERED, sizes(scenario), strict=True)):
        mean = Estimate.mean([Estimate.of(fold[i]) for fold in measured])
        both = [bounds(mean, *size)]
        both.append(percentile([fold[i] for fold in known], base) if known else both[0])
        out[name] = tuple(float(((low <= true[i]) & (true[i] <= up)).mean()) for low, up in both)
    return out


def compared(scenario: Scenario, trials: int, base: int = 0) -> dict[str, tuple[float, float]]:
    """Compare two methods that are equally good, on the same images and with other seeds.

    Returns:
        metric -> share of trials whose interval of the difference holds 0, and of p < 0.05.
    """
    rng = np.random.default_rng([base, 1, len(scenario.name), scenario.folds])
    both = draw(replace(scenario, seeds=2 * scenario.seeds), trials, rng)
    halves = (slice(0, scenario.seeds), slice(scenario.seeds, None))
    a, b = (
        measure(scenario, Trials(both.valid[h], both.test[h], both.fakes[h]), base) for h in halves
    )
    out = {}
    for i, (name, size) in enumerate(zip(COVERED, sizes(scenario), strict=True)):
        parts = [Estimate.of(one[i] - other[i]) for one, other in zip(a, b, strict=True)]
        low, high, p = difference(Estimate.mean(parts), *size)
        out[name] = float(((low <= 0) & (high >= 0)).mean()), float((p < 0.05).mean())
    return out


def main(argv: list[str] | None = None) -> None:
    """Print the tables of docs/numbers.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000, help="of each scenario (2000)")
    trials = parser.parse_args(argv).trials
    print("| | recall | FPR | AUC |\n|---|---|---|---|")
    for scenario in SCENARIOS:
        found = coverage(scenario, trials, beside=True)
        cells = (f"{100 * new:.1f} ({100 * old:.1f})" for new, old in found.values())
        print(f"| {scenario.name} | {' | '.join(cells)} |", flush=True)
    print("\n| two equal methods | recall | FPR | AUC |\n|---|---|---|---|")
    for scenario in SCENARIOS[:-1]:
        cells = (f"{100 * held:.1f}" for held, _ in compared(scenario, trials).values())
        print(f"| {scenario.name} | {' | '.join(cells)} |", flush=True)
    print(f"{trials} trials each: one standard error is "
          f"{100 * (0.95 * 0.05 / trials) ** 0.5:.1f} points at 95 %", file=sys.stderr)  # fmt: skip


if __name__ == "__main__":
    main()
