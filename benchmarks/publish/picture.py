"""docs/matrix-<profile>.png: the matrix as a picture, fakes on the left, photographs on the right.

It shows numbers alone: no generated face and no photograph.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks import readings
from benchmarks.page.tables import MISSING, number, percent, short, span
from benchmarks.publish.artefact import Kept
from benchmarks.publish.blocks import collections_unseen, means

# False-positive rates beyond this are as dark as this one.
DARKEST = 0.5


@dataclass(frozen=True)
class Panel:
    """One side: columns, and values (methods, columns), NaN where there is none."""

    columns: tuple[str, ...]
    values: np.ndarray
    # How many of the last columns sum the others up, or, of photographs, the first.
    sums: int


def panels(kept: Kept) -> tuple[tuple[str, ...], Panel, Panel]:
    """Lay both sides out.

    Returns:
        the methods in the order of params.yaml; recall on each generator left out and on each that
        is for testing only, worst and mean over the former; the false-positive rate on photographs
        of the collections in training, mean and largest over the same fits, and on each collection
        never seen.
    """
    methods, sums = tuple(kept.params.methods), means(kept)
    fakes = readings.unseen(kept.whole)
    left = kept.params.train_generators
    tested = dict.fromkeys(readings.tested_only(kept.whole)["generator"])
    recall = {
        f"{name}{'' if name in left else '*'}\nn = {span(rows['n_fake'])}": rows.set_index(
            "method"
        )["recall"]
        for name in (*left, *tested)
        for rows in [fakes[fakes["generator"] == name]]
    } | {"worst": sums["worst"], "mean": sums["recall"]}
    rates = {"in training,\nmean": sums["fpr"], "in training,\nlargest": sums["fpr_largest"]} | {
        f"{short(name)}\nn = {span(rows['n_real'])}": rows["fpr"]
        for name, rows in collections_unseen(kept).items()
    }
    sides = (
        Panel(
            tuple(side),
            np.column_stack([column.reindex(list(methods)) for column in side.values()]),
            2,
        )
        for side in (recall, rates)
    )
    return methods, *sides


def draw(methods: Sequence[str], fakes: Panel, photographs: Panel, target: float) -> bytes:
    """Draw both sides as a PNG; the same numbers give the same bytes.

    Args:
        methods: names of the rows.
        fakes: recall.
        photographs: false-positive rates.
        target: the false-positive rate that thresholds were set for.
    """
    from matplotlib.figure import Figure

    widths = [len(fakes.columns), len(photographs.columns)]
    figure = Figure(figsize=(2.2 + 0.82 * sum(widths), 1.6 + 0.42 * len(methods)), dpi=130)
    axes = figure.subplots(1, 2, width_ratios=widths)
    sides = ((fakes, "YlGnBu", 1.0, number), (photographs, "OrRd", DARKEST, percent))
    for place, (panel, colours, darkest, write) in zip(axes, sides, strict=True):
        shade = np.clip(panel.values / darkest, 0, 1)
        place.imshow(np.ma.masked_invalid(shade), cmap=colours, vmin=0, vmax=1, aspect="auto")
        for (y, x), value in np.ndenumerate(panel.values):
            text = MISSING if np.isnan(value) else write(value)
            colour = "white" if shade[y, x] > 0.6 else "black"
            place.text(x, y, text, ha="center", va="center", color=colour, size=9)
        place.set_xticks(range(len(panel.columns)), panel.columns, rotation=40, ha="right", size=8)
        place.tick_params(length=0)
        place.spines[:].set_visible(False)
    axes[0].set_yticks(range(len(methods)), methods)
    axes[1].set_yticks([])
    axes[0].axvline(len(fakes.columns) - fakes.sums - 0.5, color="white", linewidth=4)
    axes[1].axvline(photographs.sums - 0.5, color="white", linewidth=4)
    axes[0].set_title("fakes of generators never seen: recall (* for testing only)", size=10)
    axes[1].set_title(f"photographs called fake (set for {percent(target)})", size=10)
    figure.subplots_adjust(wspace=0.06)
    buffer = io.BytesIO()
    # No software version in the file.
    figure.savefig(buffer, format="png", bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()


def png(kept: Kept) -> bytes:
    """Draw the picture of a profile."""
    return draw(*panels(kept), kept.params.matrix.threshold.fpr)
