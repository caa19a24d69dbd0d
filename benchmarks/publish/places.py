"""Tables about *where*: how well the map finds the fake part of a picture put together of two."""

from __future__ import annotations

from itertools import product

from benchmarks.composites import CONTROL, FAKE_IN, REAL_IN, UNTOUCHED
from benchmarks.localisation import over_all, summary
from benchmarks.page.tables import number, span, with_interval
from benchmarks.publish.artefact import Kept
from benchmarks.publish.blocks import code, table
from pipeline.params import NONE

NOT_MEASURED = "Where the fakes are was not measured in this run."
# What `benchmarks.composites` makes, in words; in the last two nothing is fake.
PICTURES = {
    FAKE_IN: "a fake's region in a photograph",
    REAL_IN: "a photograph's region in a fake",
    CONTROL: "**control**: another photograph's region in a photograph",
    UNTOUCHED: "the same regions, nothing put in",
}
RIVALS = {"evidence": "not smoothed", "grad_cam": "Grad-CAM", "centre": "centre prior"}


def localisation(kept: Kept) -> str:
    """Mean over generators by kind of picture, the controls last, and the rivals of the map."""
    if kept.localisation is None:
        return NOT_MEASURED
    means, lines = summary(kept.localisation), []
    groups = dict(iter(means.groupby(["seen", "composite"])))
    for seen, picture in product(("seen", "held out", ""), PICTURES):
        if (seen, picture) not in groups:
            continue
        maps = groups[seen, picture].set_index("map")
        ours = maps.loc["heat_map"]
        lowest, highest = (number(ours[key]) for key in ("lowest", "highest"))
        lines.append(
            [PICTURES[picture], seen or "none in it",
             f"{number(ours['pixel_auc'])} ({lowest}–{highest})",
             *(number(maps.loc[name, "pixel_auc"]) for name in RIVALS),
             f"{number(ours['pointing'])} ({number(ours['area'])})", number(ours["called_fake"])]
        )  # fmt: skip
    rows = over_all(kept.localisation)
    text = (
        f"Pixel AUC of the map of `deepfd`: the probability that a fake pixel lies above one that "
        f"is not, by chance 0.5; mean over {means['generators'].max()} generators "
        f"(lowest–highest), {span(rows['pairs'])} pairs of pictures a generator, "
        f"{span(rows['n'])} composites, "
        f"{span(rows['seeds'])} seeds. Pointing: the highest place is fake (by chance). In the "
        "control nothing is fake: what is found there is the seam, or the place."
    )
    head = ["picture", "its generator in training", "map", *RIVALS.values(), "pointing",
            "called fake"]  # fmt: skip
    return f"{text}\n\n{table(head, lines)}"


def localisation_cells(kept: Kept) -> str:
    """By generator, seen in training and left out: pixel AUC of the map with its interval."""
    if kept.localisation is None:
        return NOT_MEASURED
    rows = over_all(kept.localisation)
    rows = rows[rows["map"] == "heat_map"]
    kinds = {
        f"{PICTURES[kind]}, {word}": rows[(rows["composite"] == kind) & (rows["seen"] == seen)]
        for kind in (FAKE_IN, REAL_IN)
        for seen, word in ((True, "seen"), (False, "left out"))
    }
    lines = [
        [code(name), *(with_interval(one[one["generator"] == name], "pixel_auc")
                       for one in kinds.values())]
        for name in kept.params.train_generators
    ]  # fmt: skip
    control = rows[(rows["composite"] == CONTROL) & (rows["held_out"] == NONE)]
    return (
        f"Pixel AUC of the map (95 % interval over pairs of pictures); the control, of the "
        f"detector that left out none: {with_interval(control, 'pixel_auc')}.\n\n"
        f"{table(['generator', *kinds], lines)}"
    )
