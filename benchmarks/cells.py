"""One cell of the matrix: a method on the images of one generator, or of one collection.

A generator's test fakes are compared with the test photographs of the collections that were in
training, all together; a collection has photographs alone, and so a false-positive rate alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from benchmarks.intervals import Estimate, Measured, Sizes, bounds
from benchmarks.metrics import METRICS, Side, combine, replicates, why_undefined
from benchmarks.resample import Draws, persons_of
from benchmarks.scores import ALL_SEEDS, VALID
from benchmarks.thresholds import thresholds_by
from pipeline.errors import UserError
from pipeline.manifest import is_real


class Images:
    """The images of one source in one split: their order, persons and resamples."""

    def __init__(self, rows: pd.DataFrame, draws: Draws, *names: str) -> None:
        # The order of the images decides which one a draw means: their ids, whatever the file's.
        rows = rows.sort_values("image_id", kind="stable")
        self.values = rows["score"].to_numpy(float)
        ids, identities = (rows[key].to_numpy(str) for key in ("image_id", "identity"))
        self.weights, self.persons = draws.of(persons_of(ids, identities), *names)

    def __len__(self) -> int:
        return len(self.values)


class Scored:
    """The scores of one fit on one perturbation; each source is summed up once for all cells.

    Attributes:
        sources: generators and collections with test images, sorted.
        trained: collections whose photographs set the threshold: those that were in training.
    """

    def __init__(self, test: pd.DataFrame, valid: pd.DataFrame, draws: Draws) -> None:
        """Sum up.

        Args:
            test: rows of `benchmarks.scores.SCHEMA`, of one method, fold, seed and perturbation.
            valid: the valid rows of the same fit.
            draws: the resamples.

        Raises:
            UserError: there is no valid photograph, or the threshold is not that of these.
        """
        first = test.iloc[0]
        self.seed, self.threshold = int(first["seed"]), float(first["threshold"])
        where = f"the scores of {first['method']}, {first['held_out']} held out, seed {self.seed}"
        photographs = valid[valid["label"] == 0]
        self.valid = {
            str(name): Images(rows, draws, VALID, str(name))
            for name, rows in photographs.groupby("generator", observed=True)
        }
        if not self.valid:
            raise UserError(f"{where} hold no valid photograph; delete them and run dvc repro")
        self.images = {
            str(name): Images(rows, draws, str(name))
            for name, rows in test.groupby("generator", observed=True)
        }
        self.sources, self.trained = tuple(self.images), tuple(self.valid)
        if missing := [name for name in self.trained if name not in self.images]:
            raise UserError(f"{where} hold no test photograph of {', '.join(missing)}")

        scores = np.concatenate([one.values for one in self.valid.values()])
        weights = np.concatenate([one.weights for one in self.valid.values()])
        rule = str(first["threshold_rule"])
        again = float(thresholds_by(rule, scores, np.ones((len(scores), 1)))[0])
        if again != self.threshold:
            raise UserError(
                f"{where} have the threshold {self.threshold}, and rule {rule} gives {again} on "
                "their valid photographs; delete them and run dvc repro"
            )
        self.thresholds = thresholds_by(rule, scores, weights)
        self.valid_persons = sum(one.persons for one in self.valid.values())
        self._sides: dict[tuple[str, ...], tuple[Side, Side, int, int]] = {}

    def side(self, *names: str) -> tuple[Side, Side, int, int]:
        """Sum sources of one class up: as they are, per resample, and how many images and persons.

        Args:
            names: generators, or collections.
        """
        if names not in self._sides:
            parts = [self.images[name] for name in names]
            label = int(not is_real(names[0]))
            scores = np.concatenate([part.values for part in parts])
            weights = np.concatenate([part.weights for part in parts])
            self._sides[names] = (
                Side.of(label, scores, self.threshold, np.ones((len(scores), 1))),
                Side.of(label, scores, self.thresholds, weights),
                len(scores),
                sum(part.persons for part in parts),
            )
        return self._sides[names]

    def cell(self, source: str) -> tuple[dict[str, Any], np.ndarray, Sizes]:
        """Measure the cell of a generator, or of a collection.

        Returns:
            what its row says but for intervals, the replicates (metrics, B), and how many images.
        """
        if is_real(source):
            once, drawn, n, persons = self.side(source)
            found, table = combine(None, once), replicates(None, drawn)
            sizes = Sizes(0, n, persons, self.valid_persons)
        else:
            once, drawn, n, _ = self.side(source)
            real_once, real_drawn, n_real, persons = self.side(*self.trained)
            found, table = combine(once, real_once), replicates(drawn, real_drawn)
            sizes = Sizes(n, n_real, persons, self.valid_persons)
        row = {
            "seed": self.seed,
            "seeds": 1,
            "n_real": sizes.photographs,
            "n_fake": sizes.fakes,
            "threshold": self.threshold,
            "undefined": why_undefined(sizes.fakes, found),
            **{name: float(value[0]) for name, value in found.items()},
        }
        return row, table, sizes


def _one(values: list[float]) -> float:
    """Return the value that all have, NaN where they differ."""
    return values[0] if len(set(values)) == 1 else float("nan")


def measure(
    fits: list[Scored], source: str, draws_nothing: bool
) -> tuple[list[dict[str, Any]], Measured, Sizes]:
    """Measure one cell by every seed.

    Args:
        fits: the scores of each seed.
        source: the generator tested on, or the collection.
        draws_nothing: whether the method would give the same with any seed.

    Returns:
        A row per seed, then the one that sums them up; what each seed gave; how many images.
    """
    rows, tables, sizes = zip(*(fit.cell(source) for fit in fits), strict=True)
    values = np.array([[row[metric] for metric in METRICS] for row in rows])
    measured = Measured(values, np.stack(tables))
    whole = {
        **rows[0],
        "seed": ALL_SEEDS,
        "seeds": len(rows),
        # Every seed has its own threshold: no one value stands for several.
        **{k: _one([row[k] for row in rows]) for k in ("threshold", "oracle_threshold")},
        "undefined": "; ".join(dict.fromkeys(r["undefined"] for r in rows if r["undefined"])),
    }
    each = [Measured(measured.values[[i]], measured.tables[[i]]) for i in range(len(rows))]
    out = []
    for row, one in zip([*rows, whole], [*each, measured], strict=True):
        estimate = Estimate.of(one)
        low, high = bounds(estimate, sizes[0].images(), sizes[0].units(), sizes[0].freedom())
        known = "none" if draws_nothing else "in" if row["seeds"] > 1 else "out"
        row = row | {"training_variance": known}
        for name, *ends in zip(METRICS, estimate.value, low, high, strict=True):
            row |= zip((name, f"{name}_low", f"{name}_high"), map(float, ends), strict=True)
        out.append(row)
    return out, measured, sizes[0]
