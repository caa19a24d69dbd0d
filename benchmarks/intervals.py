"""How far a number may be from what would be measured again: one model for intervals and p values.

"Again" means: other test images, other valid photographs to set the threshold on, and, where a
method draws, other seeds. The first two are resampled together (`benchmarks.resample`), for all
seeds and methods alike; their variance is that of the resamples. Seeds are too few to be resampled:
what they differ by, beyond what resampled images explain, is a variance of S - 1 degrees of
freedom. The sum has the degrees of freedom of Satterthwaite (1946), so that a mean over F folds has
about F (S - 1) where seeds decide and many where images do, and Student's t is taken with them.

A metric lies in [0, 1]. Its interval is that of a share of n images, n as large as its variance
says (Korn and Graubard 1998): the quantiles of Jeffreys' beta distribution, and of exactly 0 or 1
the bounds of Clopper and Pearson. A difference has the plain interval of Student's t.
`python -m benchmarks.coverage` shows how often all these hold the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, stdtr, stdtrit

from benchmarks.metrics import AT_THRESHOLD, METRICS, OF_FAKES, OF_PHOTOGRAPHS

CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2
# Degrees of freedom of a variance that is known.
MANY = 1e6


@dataclass(frozen=True)
class Sizes:
    """How many images a cell is made of, and of how many persons.

    Attributes:
        fakes: fakes, 0 where there are none.
        photographs: test photographs.
        persons: of the test photographs.
        valid_persons: of the photographs that the threshold was set on.
    """

    fakes: int
    photographs: int
    persons: int
    valid_persons: int

    def images(self) -> np.ndarray:
        """Images that a metric is a share of, infinite where it is no share, float (metrics,)."""
        return self._by_metric(self.fakes, self.photographs, np.inf)

    def units(self) -> np.ndarray:
        """Images or persons that are drawn independently, the fewer of two classes, (metrics,)."""
        fewer = min(self.fakes, self.persons) if self.fakes else self.persons
        return self._by_metric(self.fakes, self.persons, fewer)

    def freedom(self) -> np.ndarray:
        """Degrees of freedom of the resampled images' variance: those of the fewest persons."""
        found = []
        for name in METRICS:
            with_threshold = [self.valid_persons] if name in AT_THRESHOLD else []
            fakes = [self.fakes] if self.fakes and name != "fpr" else []
            photographs = [self.persons] if name != "recall" else []
            found.append(min(with_threshold + fakes + photographs) - 1)
        return np.maximum(found, 1).astype(float)

    def _by_metric(self, fakes: float, photographs: float, others: float) -> np.ndarray:
        # Without fakes their metrics are not defined, whatever is said of them.
        kinds = dict.fromkeys(OF_FAKES, max(fakes, 1)) | dict.fromkeys(OF_PHOTOGRAPHS, photographs)
        return np.array([kinds.get(name, others) for name in METRICS], dtype=float)


@dataclass(frozen=True)
class Measured:
    """What each seed's fit gave on the same images.

    Attributes:
        values: float (S, metrics), NaN where a metric is not defined.
        tables: float (S, metrics, B), the same in each resample.
    """

    values: np.ndarray
    tables: np.ndarray

    def __sub__(self, other: Measured) -> Measured:
        """Differ seed by seed; both have the same seeds."""
        return Measured(self.values - other.values, self.tables - other.tables)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, and what is known of its variance.

    Attributes:
        value: float (metrics,).
        table: float (metrics, B), in each resample.
        training: (variance (metrics,), degrees of freedom) of each independent group of seeds; none
            where nothing is known of it.
    """

    value: np.ndarray
    table: np.ndarray
    training: tuple[tuple[np.ndarray, int], ...] = ()

    @classmethod
    def of(cls, measured: Measured) -> Estimate:
        """Average over seeds."""
        seeds = len(measured.values)
        value, table = measured.values.mean(axis=0), measured.tables.mean(axis=0)
        if seeds == 1:
            return cls(value, table)
        between = measured.values.var(axis=0, ddof=1)
        # Seeds are tested on the same images, but each errs in images of its own: the part of
        # `between` that is in the resamples of their mean already.
        own = _variance(measured.tables - table).sum(axis=0) / (seeds - 1)
        return cls(value, table, ((np.maximum(between - own, 0) / seeds, seeds - 1),))

    @classmethod
    def mean(cls, parts: Sequence[Estimate]) -> Estimate:
        """Average over folds, whose images may be the same and whose seeds are not."""
        return cls(
            np.mean([part.value for part in parts], axis=0),
            np.mean([part.table for part in parts], axis=0),
            tuple((v / len(parts) ** 2, df) for part in parts for v, df in part.training),
        )

    def __sub__(self, other: Estimate) -> Estimate:
        """Differ from another one on the same images with seeds of its own."""
        return Estimate(
            self.value - other.value, self.table - other.table, self.training + other.training
        )

    def variance(self, image_freedom: np.ndarray | float = MANY) -> tuple[np.ndarray, np.ndarray]:
        """Return the whole variance and its degrees of freedom, each (metrics,).

        Args:
            image_freedom: degrees of freedom of the resampled images' variance.
        """
        images = _variance(self.table)
        whole = images + sum(v for v, _ in self.training)
        spread = images**2 / image_freedom + sum(v**2 / df for v, df in self.training)
        known = np.divide(whole**2, spread, out=np.full_like(whole, MANY), where=spread > 0)
        return whole, np.minimum(known, MANY)


def bounds(
    estimate: Estimate,
    images: np.ndarray | float,
    units: np.ndarray | float,
    image_freedom: np.ndarray | float = MANY,
) -> tuple[np.ndarray, np.ndarray]:
    """Bound metrics in [0, 1].

    Args:
        estimate: of each metric.
        images: images that a metric is a share of: no share is known better than that of so many
            independent ones. Infinite where it is none.
        units: images, or persons, that are independent; they bound what did not move in any
            resample.
        image_freedom: see `Estimate.variance`.

    Returns:
        low and high, float (metrics,); NaN where the metric is.
    """
    variance, freedom = estimate.variance(image_freedom)
    value, middle = estimate.value, _mean(estimate.table)
    moved = (variance > 0) & (middle > 0) & (middle < 1)
    student = stdtrit(freedom, 1 - TAIL) / stdtrit(MANY, 1 - TAIL)
    n = middle * (1 - middle) / np.where(moved, variance, 1) / student**2
    n = np.where(moved, np.minimum(n, images), units)
    hits = np.clip(value, 0, 1) * n
    low = betaincinv(hits + 0.5, n - hits + 0.5, TAIL)
    high = betaincinv(hits + 0.5, n - hits + 0.5, 1 - TAIL)
    exact = TAIL ** (1 / n)
    # A share just beside 0 or 1 is not bounded more narrowly than 0 or 1 themselves.
    whole = TAIL ** (1 / np.broadcast_to(images, n.shape))
    low = np.where(value >= 1, exact, np.minimum(low, whole))
    high = np.where(value <= 0, 1 - exact, np.maximum(high, 1 - whole))
    low, high = np.where(value <= 0, 0.0, low), np.where(value >= 1, 1.0, high)
    missing = np.isnan(value)
    low, high = np.minimum(low, value), np.maximum(high, value)
    return np.where(missing, np.nan, low), np.where(missing, np.nan, high)


def difference(
    estimate: Estimate, units: np.ndarray | float, image_freedom: np.ndarray | float = MANY
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bound differences of metrics, and test that there is none.

    Args:
        estimate: of the differences.
        units: independent images; the variance is not below that of the exact bound on a difference
            that no image showed.
        image_freedom: see `Estimate.variance`.

    Returns:
        low, high and the two-sided p, float (metrics,).
    """
    variance, freedom = estimate.variance(image_freedom)
    least = (1 - TAIL ** (1 / np.asarray(units))) / stdtrit(MANY, 1 - TAIL)
    error = np.sqrt(np.maximum(variance, least**2))
    reach = stdtrit(freedom, 1 - TAIL) * error
    p = 2 * stdtr(freedom, -np.abs(estimate.value) / error)
    return np.maximum(estimate.value - reach, -1), np.minimum(estimate.value + reach, 1), p


def _variance(table: np.ndarray) -> np.ndarray:
    """Variance over resamples (..., B) that are defined; 0 where fewer than two are."""
    gaps = np.isnan(table)
    if not gaps.any():
        return table.var(axis=-1, ddof=1)
    n = (~gaps).sum(axis=-1)
    off = np.where(gaps, 0, table - _mean(table)[..., None])
    return (off**2).sum(axis=-1) / np.maximum(n - 1, 1)


def _mean(table: np.ndarray) -> np.ndarray:
    """Mean over resamples (..., B) that are defined; NaN where none is."""
    gaps = np.isnan(table)
    if not gaps.any():
        return table.mean(axis=-1)
    n = (~gaps).sum(axis=-1)
    return np.divide(
        np.where(gaps, 0, table).sum(axis=-1), n, out=np.full(n.shape, np.nan), where=n > 0
    )
