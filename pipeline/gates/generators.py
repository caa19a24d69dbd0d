"""Generators: constant images, collapse, copies of training photographs, ids and counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from pipeline import manifest
from pipeline.errors import UserError
from pipeline.gates.gate import HARD, Gate, judge, some
from pipeline.gates.options import Audit
from pipeline.gates.splits import BITS, bits_apart, closest, repeated
from pipeline.gates.traces import Traces
from pipeline.params import Params

COPY_QUANTILE = 0.05
FLAT = 1.0  # an image whose grey levels deviate by less than this (in grey levels) is constant


def source_gates(found: Mapping[str, Traces], params: Params) -> Iterator[Gate]:
    """Yield the gates on every source for itself: digests, labels, ids, counts, constant images."""
    every = pd.concat([one.rows["image_id"] for one in found.values()])
    times = every.value_counts()
    for name, one in found.items():
        rows = one.rows
        wrong = rows.loc[rows["digest"] != rows["sha256"], "image_id"]
        yield judge(
            "digest", name, len(wrong), 0,
            f"{len(wrong)} images are not those of their sha256" + _examples(wrong),
        )  # fmt: skip
        label = int(not manifest.is_real(name))
        wrong = rows.loc[(rows["label"] != label) | (rows["generator"] != name), "image_id"]
        yield judge(
            "label", name, len(wrong), 0,
            f"{len(wrong)} images are not labelled {label} of {name}" + _examples(wrong),
        )  # fmt: skip
        wrong = rows.loc[rows["image_id"].map(times) > 1, "image_id"]
        yield judge(
            "ids", name, len(wrong), 0, f"{len(wrong)} images share an id" + _examples(wrong)
        )
        flat = rows.loc[rows["std"] < FLAT, "image_id"]
        yield judge(
            "constant", name, len(flat), 0,
            f"{len(flat)} images are constant (what NaN becomes too)" + _examples(flat),
        )  # fmt: skip
        if name in params.generators:
            asked = params.generators[name].images
            yield judge(
                "counts", name, abs(len(rows) - asked), 0,
                f"{len(rows)} images; params.yaml asks for {asked}",
            )  # fmt: skip


def _examples(ids: pd.Series) -> str:
    return f": {some(ids)}" if len(ids) else ""


def generator_gates(
    name: str, fake: Traces, real: Traces, audit: Audit, severity: str = HARD
) -> Iterator[Gate]:
    """Yield collapse and copying of one generator.

    Collapse is the share of its images that have a near-duplicate among its images, beyond that of
    the photographs: those show the same person in the same pose twice too. Copying is the
    share of its images that are nearer to a training photograph than 95 % of the training
    photographs are to their nearest other one (so photographs themselves would have 5 %); distance
    is ||a - b|| of standardised thumbnails, sqrt(2 - 2 correlation).
    """
    # The more pictures, the more of them have a neighbour: as many of either.
    count = min(len(fake.hashes), len(real.hashes))
    share, usual = (repeated(one.hashes, audit, count) for one in (fake, real))
    best, where = closest(fake.hashes, fake.hashes, skip_self=True)
    at, ids = int(best.argmax()), fake.rows["image_id"]
    yield judge(
        "collapse", name, share, audit.collapse + usual,
        f"{share:.1%} of {count} images have a near-duplicate among them (<= {audit.near_bits} of "
        f"{BITS} bits), {usual:.1%} of as many photographs; nearest: {ids[at]} and "
        f"{ids[where[at]]}, {bits_apart(best[at]):.0f} bits",
        severity,
    )  # fmt: skip

    train = (real.rows["split"] == "train").to_numpy()
    thumbs, photographs = real.thumbs[train], real.rows.loc[train, "image_id"].to_numpy()
    if len(thumbs) < 2:
        raise UserError(f"{len(thumbs)} training photographs; expected 2 or more: mend faces.split")
    among = _distance(closest(thumbs, thumbs, skip_self=True)[0])
    near = float(np.quantile(among, COPY_QUANTILE))
    best, where = closest(fake.thumbs, thumbs)
    distance = _distance(best)
    share, at = (distance < near).mean(), int(distance.argmin())
    yield judge(
        "copying", name, share, audit.copying,
        f"{share:.1%} of the images are nearer than {near:.3f} to a training photograph; median "
        f"distance {np.median(distance):.3f}, among photographs {np.median(among):.3f}; nearest: "
        f"{ids[at]} and {photographs[where[at]]}, {distance[at]:.3f}",
        severity,
    )  # fmt: skip


def _distance(products: np.ndarray) -> np.ndarray:
    return np.sqrt(np.clip(2 - 2 * products, 0, None))
