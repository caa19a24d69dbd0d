"""Figures of the report, as SVG that stands inside the page.

One style for all. Text stays text, and colours are names (`var(--ink)`, `var(--c0)`, ...) that the
page's style sheet gives a value for light and for dark: a figure follows the page. A figure is
about as wide as a phone, so that its letters are still read there; the page sets several side by
side. The same numbers give the same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmarks.metrics import BINS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours that matplotlib is given in the place of the page's names, which it does not know.
_NAMES = {"ink": "#010101", "soft": "#010102", "line": "#010103", "paper": "#010104"}
COLOURS = 8
_NAMES |= {f"c{i}": f"#0102{i:02d}" for i in range(COLOURS)}
DASHES = ("-", "--", ":")
MARKERS = "osD^vP"
WIDTH, HEIGHT = 4.6, 3.5  # inches of 72 units
BANDS = 4  # methods whose bands a figure can show at once
LEAST = 10  # images that a point of a reliability curve needs
PAPER_RATE = 0.947  # fakes of several GANs detected, arXiv 1809.08754

_STYLE = {
    "svg.fonttype": "none",
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.titlecolor": _NAMES["ink"],
    "axes.titlelocation": "left",
    "axes.edgecolor": _NAMES["line"],
    "axes.labelcolor": _NAMES["soft"],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _NAMES["line"],
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "text.color": _NAMES["soft"],
    "xtick.color": _NAMES["line"],
    "ytick.color": _NAMES["line"],
    "xtick.labelcolor": _NAMES["soft"],
    "ytick.labelcolor": _NAMES["soft"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}


def place(index: int) -> tuple[int, int]:
    """Return the numbers of colour and dashes of the method at place `index` of params.yaml."""
    return index % COLOURS, index // COLOURS % len(DASHES)


def _line(index: int) -> dict[str, str]:
    """How the line of the method at place `index` looks."""
    colour, dashes = place(index)
    return {"color": _NAMES[f"c{colour}"], "linestyle": DASHES[dashes]}


def svg(
    name: str, label: str, draw: Callable[[Axes], None], width: float = WIDTH,
    height: float = HEIGHT,
) -> str:  # fmt: skip
    """Draw one set of axes as an SVG element for the page.

    Args:
        name: of the figure, unique in the page.
        label: what a screen reader says.
        draw: draws on the axes it is given.
        width: in inches.
        height: in inches.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with rc_context(_STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.subplots())
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.S)
    # Ids of groups are the same in every figure; those that something refers to are digests.
    used = set(re.findall(r"#([\w.-]+)[\")]", text))
    text = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", text)
    for key, value in _NAMES.items():
        text = text.replace(value, f"var(--{key})")
    text = re.sub(r"font-family: [^;]+;", "", text)
    view = re.search(r'viewBox="[^"]+"', text)[0]
    body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    body = re.sub(r"\s*\n\s*", " ", body).strip()
    return f'<svg {view} role="img" aria-label="{label}">{body}</svg>'


def _rates(axes: Axes, x: str | None = None, y: str | None = None) -> None:
    """Name the axes that are named and let them run from 0 to 1."""
    if x:
        axes.set(xlabel=x, xlim=(-0.02, 1.02))
    if y:
        axes.set(ylabel=y, ylim=(-0.02, 1.04))


def before_after(
    name: str, before: pd.Series, after: pd.Series, labels: tuple[str, str], title: str
) -> str:
    """Draw two rates of each method on one line: hollow `before`, filled `after`.

    Args:
        name: of the figure.
        before: rate in [0, 1] by method, in the order of params.yaml.
        after: the same methods.
        labels: what `before` and `after` are.
        title: what the rates are.
    """

    def draw(axes: Axes) -> None:
        for index, method in enumerate(before.index):
            values, tint = (before[method], after[method]), _line(index)["color"]
            axes.plot(values, (index, index), color=tint, linewidth=1.4, zorder=2)
            axes.plot(values[0], index, "o", color=_NAMES["paper"], markeredgecolor=tint, ms=8,
                      markeredgewidth=1.6, zorder=3)  # fmt: skip
            axes.plot(values[1], index, "o", color=tint, ms=8, zorder=4)
        axes.set_yticks(range(len(before)), list(before.index))
        axes.set(ylim=(len(before) - 0.4, -0.6))
        axes.grid(False, axis="y")
        _rates(axes, f"{title}; hollow: {labels[0]}, filled: {labels[1]}")

    return svg(name, f"{title}: {labels[0]} against {labels[1]}", draw,
               height=1 + 0.36 * len(before))  # fmt: skip


def recall_against_fpr(points: pd.DataFrame, methods: Sequence[str], target: float) -> str:
    """Draw, for each method, recall on unseen generators over false positives.

    Args:
        points: rows of `method`, `collection` ("" = the photographs' own), `recall`, `fpr`.
        methods: in the order of params.yaml, for the colours.
        target: the false-positive rate that thresholds were set for.
    """
    collections = list(dict.fromkeys(points["collection"]))

    def draw(axes: Axes) -> None:
        # A root: 5 % and 90 % both need room.
        axes.set_xscale("function", functions=(np.sqrt, np.square))
        axes.axvline(target, color=_NAMES["soft"], linewidth=1, linestyle=":")
        axes.axhline(PAPER_RATE, color=_NAMES["soft"], linewidth=1, linestyle=":")
        axes.text(1, PAPER_RATE + 0.01, "94.7 % (paper)", ha="right", va="bottom", size=9)
        for method, rows in points.groupby("method", sort=False):
            colour = _line(methods.index(method))["color"]
            axes.plot(rows["fpr"], rows["recall"], color=colour, linewidth=1, alpha=0.6)
            for row in rows.itertuples():
                number = collections.index(row.collection)
                axes.plot(
                    row.fpr, row.recall, MARKERS[number % len(MARKERS)], ms=8, zorder=3,
                    color=_NAMES["paper"] if number else colour, markeredgecolor=colour,
                    markeredgewidth=1.6, clip_on=False,
                )  # fmt: skip
        axes.set_xticks([0, 0.01, 0.05, 0.2, 0.5, 1], ["0", ".01", ".05", ".2", ".5", "1"])
        _rates(axes, "false positive rate", "recall, generators never seen")
        axes.set_xlim(0, 1.02)

    return svg("recall-fpr", "Recall over false positive rate, by method", draw)


def roc(scores: pd.DataFrame) -> str:
    """Draw the ROC curve of each method.

    Args:
        scores: per-image `method`, `label` (1 = fake) and `score`, the folds pooled.
    """
    from sklearn.metrics import roc_curve

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=_NAMES["line"], linewidth=1)
        for index, (_, rows) in enumerate(scores.groupby("method", sort=False, observed=True)):
            fpr, tpr, _ = roc_curve(rows["label"], rows["score"])
            # A step for every image is more than a screen shows.
            keep = np.unique(np.linspace(0, len(fpr) - 1, 300).astype(int))
            axes.plot(fpr[keep], tpr[keep], **_line(index))
        _rates(axes, "false positive rate", "true positive rate")

    return svg("roc", "ROC curves by method", draw)


def reliability(scores: pd.DataFrame) -> str:
    """Draw the share of fakes over the score, in the bins of the calibration error.

    Args:
        scores: per-image `method`, `label` (1 = fake) and `score`, the folds pooled.
    """

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=_NAMES["line"], linewidth=1)
        for index, (_, rows) in enumerate(scores.groupby("method", sort=False, observed=True)):
            bins = np.clip((rows["score"] * BINS).astype(int), 0, BINS - 1)
            means = rows.groupby(bins)[["score", "label"]].agg(["mean", "size"])
            means = means[means["label", "size"] >= LEAST]
            axes.plot(
                means["score", "mean"], means["label", "mean"],
                **_line(index), marker="o",
            )  # fmt: skip
        _rates(axes, "score, P(fake)", "share that is fake")

    return svg("reliability", "Reliability curves by method", draw)


def over_categories(name: str, table: pd.DataFrame, title: str, target: float | None = None) -> str:
    """Draw a rate of each method (rows) over categories (columns), such as perturbations."""

    def draw(axes: Axes) -> None:
        if target is not None:
            axes.axhline(target, color=_NAMES["soft"], linewidth=1, linestyle=":")
        for index, (_, values) in enumerate(table.iterrows()):
            axes.plot(range(len(values)), values, marker="o", **_line(index))  # fmt: skip
        axes.set_xticks(range(table.shape[1]), list(table.columns), rotation=35, ha="right")
        _rates(axes, y=title)

    return svg(name, f"{title} by method", draw)


def over_images(name: str, rows: pd.DataFrame, methods: Sequence[str], title: str) -> str:
    """Draw recall over the number of synthesised images, a line per method; few have their bands.

    Args:
        name: of the figure.
        rows: `method`, `images`, `recall`, `recall_low`, `recall_high`.
        methods: in the order of params.yaml, for the colours.
        title: stands above the axes.
    """

    def draw(axes: Axes) -> None:
        for method, mine in rows.groupby("method", sort=False):
            line = _line(methods.index(method))
            if rows["method"].nunique() <= BANDS:
                axes.fill_between(
                    mine["images"], mine["recall_low"], mine["recall_high"],
                    color=line["color"], alpha=0.15, linewidth=0,
                )  # fmt: skip
            axes.plot(mine["images"], mine["recall"], marker="o", **line)
        axes.set_title(title)
        axes.xaxis.set_major_locator(_few_integers())
        axes.set(xlabel="synthesised images, all generators")
        _rates(axes, y="recall")

    return svg(name, f"Recall on {title} over synthesised images", draw, height=2.8)


def _few_integers() -> object:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(5, integer=True)
