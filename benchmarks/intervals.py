"""How far a number may be from what would be measured again: one model for intervals and p values.

"Again" means: other test images, other valid photographs to set the threshold on, and, where a
method draws, other seeds. The first two are resampled together (`benchmarks.resample`), for all
seeds and methods alike, whole persons at a time; their variance is that of the resamples. Seeds are
too few to be resampled: what they differ by (and with it what each of them errs in alone, which is
then taken out of the images' variance) is a variance of S - 1 degrees of freedom, in a mean over F
folds of up to F (S - 1) (Welch 1947: fewer where folds differ in it). Each variance has its
quantile of Student's t, and their sum the mean of these, each counted as much as its variance
(Cochran 1964): where seeds decide, that of the seeds.

A metric lies in [0, 1]. A share has the interval of a share of n independent images, n as its
variance says (Korn and Graubard 1998), with the quantiles of Jeffreys' beta distribution; any other
metric has Student's interval of its logit. Exactly 0 or 1 has the bound of Clopper and Pearson. A
difference has Student's interval. `python -m benchmarks.coverage` shows how often these hold the
truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, expit, logit, stdtr, stdtrit

from benchmarks.metrics import AT_THRESHOLD, METRICS, OF_FAKES, OF_PHOTOGRAPHS

CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2
# Degrees of freedom of a variance that is known.
MANY = 1e6
NORMAL = float(stdtrit(MANY, 1 - TAIL))


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
        own: float (metrics,), the part of the variance of `table` that is in `training` too.
    """

    value: np.ndarray
    table: np.ndarray
    training: tuple[tuple[np.ndarray, int], ...] = ()
    own: np.ndarray | float = 0.0

    @classmethod
    def of(cls, measured: Measured) -> Estimate:
        """Average over seeds."""
        seeds = len(measured.values)
        value, table = measured.values.mean(axis=0), measured.tables.mean(axis=0)
        if seeds == 1:
            return cls(value, table)
        between = measured.values.var(axis=0, ddof=1)
        # Seeds are tested on the same images, but each errs in images of its own.
        own = _variance(measured.tables - table).sum(axis=0) / (seeds - 1)
        return cls(value, table, ((between / seeds, seeds - 1),), own / seeds)

    @classmethod
    def mean(cls, parts: Sequence[Estimate]) -> Estimate:
        """Average over folds, whose images may be the same and whose seeds are not."""
        return cls(
            np.mean([part.value for part in parts], axis=0),
            np.mean([part.table for part in parts], axis=0),
            tuple((v / len(parts) ** 2, df) for part in parts for v, df in part.training),
            sum(part.own for part in parts) / len(parts) ** 2,
        )

    def __sub__(self, other: Estimate) -> Estimate:
        """Differ from another one on the same images with seeds of its own."""
        return Estimate(
            self.value - other.value,
            self.table - other.table,
            self.training + other.training,
            self.own + other.own,
        )

    def variance(self, image_freedom: np.ndarray | float = MANY) -> tuple[np.ndarray, np.ndarray]:
        """Return the whole variance and how many standard errors 95 % reach, each (metrics,).

        Args:
            image_freedom: degrees of freedom of the resampled images' variance: that of resamples
                of C persons is too small by (C - 1) / C.
        """
        images = np.maximum(_variance(self.table) - self.own, 0) * (1 + 1 / image_freedom)
        seeds = sum((v for v, _ in self.training), np.zeros_like(images))
        if not self.training:
            return images, np.broadcast_to(stdtrit(image_freedom, 1 - TAIL), images.shape)
        # Welch's: all, where the groups' variances are alike; those of one that is most of the sum.
        squares = sum(v**2 / (df + 2) for v, df in self.training)
        freedom = np.divide(seeds**2, squares, out=np.full_like(seeds, MANY), where=squares > 0) - 2
        each = [df for _, df in self.training]
        freedom = np.clip(freedom, min(each), sum(each))
        reach = images * stdtrit(image_freedom, 1 - TAIL) + seeds * stdtrit(freedom, 1 - TAIL)
        whole = images + seeds
        return whole, np.divide(reach, whole, out=np.full_like(whole, NORMAL), where=whole > 0)


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
    variance, reach = estimate.variance(image_freedom)
    value, middle = estimate.value, _mean(estimate.table)
    inner = (value > 0) & (value < 1)
    moved = (variance > 0) & (middle > 0) & (middle < 1)
    n = np.divide(middle * (1 - middle), variance, out=np.ones_like(value), where=moved)
    n = np.where(moved, np.minimum(n * (NORMAL / reach) ** 2, images), units)
    hits = np.where(inner, value, 0.5) * n
    share = betaincinv(hits + 0.5, n - hits + 0.5, np.array([TAIL, 1 - TAIL])[:, None])
    # Where nothing moved in a resample, no standard error is to be had: as a share of its units.
    is_share = np.isfinite(images) | ~moved
    low, high = np.where(is_share, share, _logit_bounds(value, variance, reach, inner & moved))
    # A share beside 0 or 1 is not bounded more narrowly than 0 or 1 themselves.
    sure = TAIL ** (1 / np.broadcast_to(images, n.shape))
    low, high = np.minimum(low, sure), np.maximum(high, 1 - sure)
    exact = TAIL ** (1 / n)
    low = np.where(value >= 1, exact, np.where(value <= 0, 0, np.minimum(low, value)))
    high = np.where(value <= 0, 1 - exact, np.where(value >= 1, 1, np.maximum(high, value)))
    missing = np.isnan(value)
    return np.where(missing, np.nan, low), np.where(missing, np.nan, high)


def _logit_bounds(
    value: np.ndarray, variance: np.ndarray, reach: np.ndarray, where: np.ndarray
) -> np.ndarray:
    """Bound metrics on their logits, (2, metrics); what is not `where` is of no use."""
    value = np.where(where, value, 0.5)
    off = reach * np.sqrt(variance) / (value * (1 - value))
    return expit(logit(value) + off * np.array([-1, 1])[:, None])


def difference(
    estimate: Estimate,
    images: np.ndarray | float,
    units: np.ndarray | float,
    image_freedom: np.ndarray | float = MANY,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bound differences of metrics, and test that there is none.

    Args:
        estimate: of the differences.
        images: images that a metric is a share of, infinite where it is none: the standard error
            is not below that of one image among them (Agresti and Min 2005).
        units: independent images, or persons; they bound what did not move in any resample.
        image_freedom: see `Estimate.variance`.

    Returns:
        low, high and the two-sided p, float (metrics,): Student's with the degrees of freedom that
        reach as far, so that p < 0.05 is 0 outside the interval.
    """
    variance, reach = estimate.variance(image_freedom)
    exact = (1 - TAIL ** (1 / np.asarray(units))) / NORMAL
    error = np.maximum(np.sqrt(variance), 1 / (np.asarray(images) + 2))
    error = np.where(variance > 0, error, exact)
    low, high = estimate.value - reach * error, estimate.value + reach * error
    p = 2 * stdtr(_freedom_of(reach), -np.abs(estimate.value) / error)
    return np.maximum(low, -1), np.minimum(high, 1), p


# Degrees of freedom, and how far Student's t reaches with them.
_FREEDOM = np.geomspace(MANY, 1, 2000)
_REACH = stdtrit(_FREEDOM, 1 - TAIL)


def _freedom_of(reach: np.ndarray) -> np.ndarray:
    """Find the degrees of freedom with which Student's t reaches so far."""
    return np.exp(np.interp(reach, _REACH, np.log(_FREEDOM)))


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
