"""Bootstrap resamples of images, whole persons at a time, each drawn once and known by its name.

Photographs of one person are alike: who resamples them one by one believes to know more than he
does. An image of nobody known is one by itself.
"""

from __future__ import annotations

import numpy as np

from pipeline.seeds import seed_for


def persons_of(ids: np.ndarray, identities: np.ndarray) -> np.ndarray:
    """Return who is drawn as one: the person, or, where unknown (""), the image; str (n,).

    >>> persons_of(np.array(["1.png", "2.png"]), np.array(["ann", ""])).tolist()
    ['ann', '2.png']
    """
    return np.where(identities == "", ids, identities)


def draw_weights(units: int, resamples: int, base: int, *names: str) -> np.ndarray:
    """Draw how often each of `units` things occurs in each bootstrap resample.

    The draw depends on the arguments alone: two methods tested on the same images get the same
    resamples, so that their difference is a paired one.

    Returns:
        float64 (units, resamples), whole numbers, columns sum to `units`.

    >>> draw_weights(5, 3, 0, "real").sum(axis=0).tolist()
    [5.0, 5.0, 5.0]
    """
    rng = np.random.default_rng(seed_for(base, "bootstrap", *names))
    draws = rng.integers(0, units, size=(resamples, units)) * resamples
    draws += np.arange(resamples)[:, None]
    counts = np.bincount(draws.ravel(), minlength=units * resamples)
    return counts.reshape(units, resamples).astype(float)


class Draws:
    """Resamples by name: the same images are drawn alike everywhere."""

    def __init__(self, resamples: int, base: int) -> None:
        self.resamples, self.base = resamples, base
        self._drawn: dict[tuple[int, tuple[str, ...]], np.ndarray] = {}

    def of(self, persons: np.ndarray, *names: str) -> tuple[np.ndarray, int]:
        """Draw images by their persons.

        Args:
            persons: str (n,), see `persons_of`.
            names: of the draw.

        Returns:
            weights, float (n, resamples), and the number of persons.
        """
        each, whose = np.unique(persons, return_inverse=True)
        key = len(each), names
        if key not in self._drawn:
            self._drawn[key] = draw_weights(len(each), self.resamples, self.base, *names)
        drawn = self._drawn[key]
        # Most often nobody is known and the ids are sorted: nothing to copy.
        alone = len(each) == len(persons) and (whose == np.arange(len(each))).all()
        return drawn if alone else drawn[whose], len(each)
